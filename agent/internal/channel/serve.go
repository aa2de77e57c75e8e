package channel

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/http2"
)

// Windows are large, because the stream between host and guest is fast and a round trip on it is not.
const (
	streamWindowBytes     = 1 << 20
	connectionWindowBytes = 16 << 20
	frameMaxBytes         = 1 << 20
	// Each exec is a stream; the bound is against a host that has gone mad, not a quota.
	streamsMax = 8192
)

// Server speaks HTTP/2 on streams.
type Server struct {
	handler http.Handler
	http2   *http2.Server
	base    *http.Server
}

// NewServer makes a server for the handler. What goes wrong inside of HTTP/2 is written to log.
func NewServer(handler http.Handler, log *log.Logger) *Server {
	return &Server{
		handler: handler,
		base:    &http.Server{ErrorLog: log},
		http2: &http2.Server{
			MaxConcurrentStreams:         streamsMax,
			MaxReadFrameSize:             frameMaxBytes,
			MaxUploadBufferPerConnection: connectionWindowBytes,
			MaxUploadBufferPerStream:     streamWindowBytes,
		},
	}
}

// Serve handles one connection after the other on raw, until the stream ends. Every connection begins with a
// handshake. When one ends, the contexts of its requests are cancelled.
func (s *Server) Serve(raw net.Conn) error {
	var pending []byte
	for {
		if err := raw.SetDeadline(time.Time{}); err != nil {
			return err
		}
		conn, err := greet(raw, pending)
		if err != nil {
			return err
		}
		s.http2.ServeConn(conn, &http2.ServeConnOpts{Handler: s.handler, BaseConfig: s.base})
		pending = conn.finish()
	}
}

// Listen serves a Unix socket, for programs on the same machine: tests of the host's side. Ends with ctx.
func (s *Server) Listen(ctx context.Context, listener net.Listener) error {
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	for {
		raw, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			defer raw.Close()
			if err := s.Serve(raw); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				s.base.ErrorLog.Printf("channel: %v", err)
			}
		}()
	}
}
