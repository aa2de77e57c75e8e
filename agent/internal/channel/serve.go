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
	"golang.org/x/sys/unix"
)

// Large windows: the stream between host and guest has a high throughput, and a slow round trip.
const (
	streamWindowBytes     = 1 << 20
	connectionWindowBytes = 16 << 20
	frameMaxBytes         = 1 << 20
	// Each exec is one stream. The limit protects against a broken host, and is not a quota.
	streamsMax = 8192
)

// Server speaks HTTP/2 on streams.
type Server struct {
	handler http.Handler
	http2   *http2.Server
	base    *http.Server
	// Last tells whether the connection that has just ended was the last one to serve. Nil means that it never is.
	Last func() bool
}

// NewServer makes a server for the handler. Errors of HTTP/2 are written to log.
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

// Serve serves one connection after the other on raw, until the stream ends. Every connection begins with a handshake.
// When one ends, the contexts of its requests are cancelled. Returns nil after the last one.
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
		if s.Last != nil && s.Last() {
			return nil
		}
	}
}

// The pause before another accept, after one that failed for lack of memory or file descriptors. It doubles up to the
// limit.
const (
	firstAcceptPause = 10 * time.Millisecond
	lastAcceptPause  = time.Second
)

// Listen serves every connection to a listener concurrently. It ends with ctx, and after the last connection.
func (s *Server) Listen(ctx context.Context, listener net.Listener) error {
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	pause := firstAcceptPause
	for {
		raw, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil && isPassing(err) {
			// A user of the guest may use up all file descriptors of the kernel. The agent must survive that.
			s.base.ErrorLog.Printf("channel: accept: %v; again in %s", err, pause)
			time.Sleep(pause)
			pause = min(2*pause, lastAcceptPause)
			continue
		}
		if err != nil {
			return err
		}
		pause = firstAcceptPause
		go func() {
			defer raw.Close()
			err := s.Serve(raw)
			if err == nil {
				listener.Close()
			}
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				s.base.ErrorLog.Printf("channel: %v", err)
			}
		}()
	}
}

// isPassing tells whether another try may succeed: the kernel lacks a resource, or the peer has left already.
func isPassing(err error) bool {
	for _, passing := range []error{
		unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED, unix.EINTR, unix.EAGAIN, unix.EPROTO,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}
