package resolver

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"
)

// helloMaxBytes is more than any client's first message: with post-quantum keys it has some 2 KiB.
const helloMaxBytes = 32 << 10

// encryptedClientHello is the extension that hides the name of a handshake (RFC 9849).
const encryptedClientHello = 0xfe0d

var errHidden = errors.New("the handshake hides its name, or has none")

// recording is a connection whose bytes are kept, and to which nothing can be written.
type recording struct {
	net.Conn
	read bytes.Buffer
}

func (r *recording) Read(buffer []byte) (int, error) {
	if r.read.Len() >= helloMaxBytes {
		return 0, errors.New("the first message is too long")
	}
	n, err := r.Conn.Read(buffer)
	r.read.Write(buffer[:n])
	return n, err
}

func (r *recording) Write(buffer []byte) (int, error) { return len(buffer), nil }

// readHello reads the first message of a TLS client. Returns its name, and all bytes that were read.
func readHello(conn net.Conn) (string, []byte, error) {
	var hello *tls.ClientHelloInfo
	seen := errors.New("the first message is complete")
	recorded := &recording{Conn: conn}
	err := tls.Server(recorded, &tls.Config{
		GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
			hello = info
			return nil, seen
		},
	}).Handshake()
	if hello == nil {
		return "", nil, err
	}
	if hello.ServerName == "" || slices.Contains(hello.Extensions, encryptedClientHello) {
		return "", nil, errHidden
	}
	return normal(hello.ServerName), recorded.read.Bytes(), nil
}

// serveTLS serves connections that the namespace has redirected.
func (p *Parser) serveTLS(listener net.Listener) error {
	free := make(chan struct{}, checkedMax)
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		original, err := originalOf(conn)
		if err != nil {
			reset(conn)
			continue
		}
		select {
		case free <- struct{}{}:
			go func() {
				defer func() { <-free }()
				p.ServeTLS(conn.(*net.TCPConn), original)
			}()
		default:
			reset(conn)
		}
	}
}

// ServeTLS forwards a connection whose handshake has a name that the policy allows, and resets all others.
func (p *Parser) ServeTLS(conn *net.TCPConn, original netip.AddrPort) {
	isWhole := false
	defer func() {
		if !isWhole {
			reset(conn)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return
	}
	name, first, err := readHello(conn)
	if err != nil {
		return
	}
	to := target{name: name, port: original.Port(), check: CheckTLS}
	peer, err := p.connect(ctx, to, original.Addr())
	if err != nil {
		return
	}
	defer peer.Close()
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return
	}
	if _, err := peer.Write(first); err != nil {
		return
	}
	isWhole = splice(conn, peer.TCPConn)
	if isWhole {
		_ = conn.Close()
	}
}

// splice forwards both directions, each to its end. Tells whether both ended in order.
func splice(one, other *net.TCPConn) bool {
	forward := func(to, from *net.TCPConn, ended chan<- error) {
		_, err := io.Copy(to, from)
		if err == nil {
			err = to.CloseWrite()
		}
		ended <- err
	}
	ended := make(chan error, 2)
	go forward(one, other, ended)
	go forward(other, one, ended)
	for range 2 {
		if err := <-ended; err != nil {
			reset(one)
			reset(other)
			return false
		}
	}
	return true
}
