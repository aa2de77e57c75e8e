package rpc

import (
	"bufio"
	"context"
	"errors"
	"io"
	"path/filepath"

	"connectrpc.com/connect"
	agentv1 "hearth.dev/agent/gen/hearth/agent/v1"
	"hearth.dev/agent/internal/fault"
	"hearth.dev/agent/internal/files"
)

const tarChunkBytes = 128 << 10

// ReadTar sends a file or directory as a tar stream.
func (s *Service) ReadTar(
	ctx context.Context, req *connect.Request[agentv1.ReadTarRequest], stream *connect.ServerStream[agentv1.ReadTarResponse],
) error {
	path, err := s.absolute(req.Msg.Path)
	if err != nil {
		return failure(err)
	}
	chunks := bufio.NewWriterSize(sendWriter{stream}, tarChunkBytes)
	if err := files.WriteTarTo(ctx, chunks, path); err != nil {
		return failure(err)
	}
	return chunks.Flush()
}

type sendWriter struct {
	stream *connect.ServerStream[agentv1.ReadTarResponse]
}

func (w sendWriter) Write(b []byte) (int, error) {
	if err := w.stream.Send(&agentv1.ReadTarResponse{Data: b}); err != nil {
		return 0, err
	}
	return len(b), nil
}

// WriteTar unpacks a tar stream.
func (s *Service) WriteTar(
	ctx context.Context, stream *connect.ClientStream[agentv1.WriteTarRequest],
) (*connect.Response[agentv1.WriteTarResponse], error) {
	if !stream.Receive() {
		return nil, errors.Join(stream.Err(), connect.NewError(connect.CodeInvalidArgument, io.ErrUnexpectedEOF))
	}
	start := stream.Msg().GetStart()
	if start == nil {
		return nil, failure(fault.New(fault.InputInvalid, "the first message of a write has to be `start`"))
	}
	path, err := s.absolute(start.Path)
	if err != nil {
		return nil, failure(err)
	}
	source := &receiveReader{stream: stream}
	done, err := files.Unpack(ctx, source, path, start.CreateParents)
	if err != nil {
		return nil, failure(err)
	}
	// Padding after the archive's end is still part of the stream.
	if _, err := io.Copy(io.Discard, source); err != nil {
		return nil, err
	}
	return connect.NewResponse(&agentv1.WriteTarResponse{Entries: done.Entries, Bytes: done.Bytes}), nil
}

type receiveReader struct {
	stream *connect.ClientStream[agentv1.WriteTarRequest]
	rest   []byte
}

func (r *receiveReader) Read(out []byte) (int, error) {
	for len(r.rest) == 0 {
		if !r.stream.Receive() {
			if err := r.stream.Err(); err != nil {
				return 0, err
			}
			return 0, io.EOF
		}
		r.rest = r.stream.Msg().GetData()
	}
	n := copy(out, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// absolute resolves a path against the default user's home directory. A trailing "/." is kept: it means the content.
func (s *Service) absolute(path string) (string, error) {
	if path == "" {
		return "", fault.New(fault.InputInvalid, "the path is empty")
	}
	if filepath.IsAbs(path) {
		return path, nil
	}
	home, err := s.Runner.Home()
	if err != nil {
		return "", err
	}
	return home + "/" + path, nil
}
