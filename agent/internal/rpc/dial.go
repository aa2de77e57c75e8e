package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"connectrpc.com/connect"
	agentv1 "hearth.dev/agent/gen/hearth/agent/v1"
	"hearth.dev/agent/internal/fault"
)

const (
	dialTimeout    = 10 * time.Second
	dialChunkBytes = 64 << 10
)

type dialStream = connect.BidiStream[agentv1.DialRequest, agentv1.DialResponse]

// Dial opens a connection inside the guest. An empty message says that it is open; then bytes flow in both directions.
// The host may end its side alone, with `closed`. The end of the target's side ends the call.
func (s *Service) Dial(ctx context.Context, stream *dialStream) error {
	first, err := stream.Receive()
	if err != nil {
		return err
	}
	target := first.GetTarget()
	if target == nil || (target.Network != "tcp" && target.Network != "unix") {
		return failure(fault.New(fault.InputInvalid, "the first message of a dial has to name a tcp or unix target"))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer s.streams.add(cancel)()
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, target.Network, target.Address)
	if err != nil {
		return connect.NewError(connect.CodeUnavailable, fmt.Errorf("nothing answers in the guest: %w", err))
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := stream.Send(&agentv1.DialResponse{}); err != nil {
		return err
	}
	go passToTarget(stream, conn)
	return passFromTarget(stream, conn)
}

func passToTarget(stream *dialStream, conn net.Conn) {
	for {
		message, err := stream.Receive()
		if err != nil && !errors.Is(err, io.EOF) {
			conn.Close()
			return
		}
		if err != nil || message.GetClosed() {
			if half, ok := conn.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite() // The target may be gone; the other direction reports that.
			}
			return
		}
		if _, err := conn.Write(message.GetData()); err != nil {
			return
		}
	}
}

func passFromTarget(stream *dialStream, conn net.Conn) error {
	buffer := make([]byte, dialChunkBytes)
	for {
		n, err := conn.Read(buffer)
		if n > 0 {
			if err := stream.Send(&agentv1.DialResponse{Data: buffer[:n]}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return connect.NewError(connect.CodeUnavailable, fmt.Errorf("the connection in the guest broke: %w", err))
		}
	}
}
