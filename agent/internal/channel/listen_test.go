package channel

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// fullListener fails a given number of times, like accept in a guest that has no free file descriptors, and then
// accepts.
type fullListener struct {
	net.Listener
	fails  atomic.Int32
	failed error
}

func (l *fullListener) Accept() (net.Conn, error) {
	if l.fails.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", l.failed)}
	}
	return l.Listener.Accept()
}

func newListener(t *testing.T, fails int32, failed error) *fullListener {
	t.Helper()
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	full := &fullListener{Listener: listener, failed: failed}
	full.fails.Store(fails)
	return full
}

func say(t *testing.T, listener net.Listener) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	h := &host{T: t, Conn: conn}
	h.SetDeadline(time.Now().Add(20 * time.Second))
	h.handshake(nonceA)
	return conn
}

func TestAGuestWhoseUsersOpenAllFilesIsServedWhenTheyCloseThem(t *testing.T) {
	listener := newListener(t, 3, syscall.ENFILE)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- NewServer(http.NewServeMux(), log.New(io.Discard, "", 0)).Listen(ctx, listener) }()
	say(t, listener).Close()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestAListenerThatIsBrokenEndsTheServer(t *testing.T) {
	listener := newListener(t, 1, syscall.EINVAL)
	err := NewServer(http.NewServeMux(), log.New(io.Discard, "", 0)).Listen(context.Background(), listener)
	if !errors.Is(err, syscall.EINVAL) {
		t.Errorf("got %v", err)
	}
}

func TestNoConnectionIsServedAfterTheLastOne(t *testing.T) {
	listener := newListener(t, 0, nil)
	server := NewServer(http.NewServeMux(), log.New(io.Discard, "", 0))
	var last atomic.Bool
	server.Last = last.Load
	ended := make(chan error, 1)
	go func() { ended <- server.Listen(context.Background(), listener) }()
	for _, isLast := range []bool{false, true} {
		conn := say(t, listener)
		if _, err := io.WriteString(conn, preface); err != nil {
			t.Fatal(err)
		}
		last.Store(isLast)
		select {
		case err := <-ended:
			t.Fatalf("it ended while the host was there: %v", err)
		default:
		}
		conn.Close()
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
