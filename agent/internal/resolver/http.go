package resolver

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
)

const headerMaxBytes = 64 << 10

// originalKey is where a request's connection wanted to go to, in the context of the request.
type originalKey struct{}

// HTTP returns the server for connections that are checked request by request.
func (p *Parser) HTTP() *http.Server {
	forward := &httputil.ReverseProxy{
		Rewrite: func(request *httputil.ProxyRequest) {
			request.SetURL(&url.URL{Scheme: "http", Host: request.In.Host})
			request.Out.Host = request.In.Host
		},
		Transport: &http.Transport{
			DisableCompression: true,
			// A policy that was replaced must hold for the next request.
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				original := ctx.Value(originalKey{}).(netip.AddrPort)
				return connection(p.connect(ctx, targetOf(address, original), original.Addr()))
			},
		},
		// What comes is passed on at once, such as events of a server.
		FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			code := http.StatusBadGateway
			if errors.Is(err, errDenied) {
				code = http.StatusForbidden
			}
			http.Error(w, "hearth: "+err.Error(), code)
		},
	}
	return &http.Server{
		ReadHeaderTimeout: handshakeTimeout,
		MaxHeaderBytes:    headerMaxBytes,
		IdleTimeout:       idleTimeout,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			original := r.Context().Value(originalKey{}).(netip.AddrPort)
			if r.Method == http.MethodConnect || (r.URL.Host != "" && r.URL.Host != r.Host) ||
				targetOf(r.Host, original).name == "" || portOf(r.Host) != original.Port() {
				http.Error(w, "hearth: the request names no host, or another one than its connection", http.StatusForbidden)
				return
			}
			forward.ServeHTTP(w, r)
		}),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, originalKey{}, conn.(redirected).original)
		},
	}
}

// connection returns a result that is nil if there is an error.
func connection(conn *peer, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// targetOf returns the target of a request, whose host may have a port.
func targetOf(host string, original netip.AddrPort) target {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	return target{name: normal(name), port: original.Port(), check: CheckHTTP}
}

// portOf returns the port of a Host header: 80 if it has none, and 0 if it is no port.
func portOf(host string) uint16 {
	if !strings.Contains(host, ":") {
		return 80
	}
	_, text, err := net.SplitHostPort(host)
	if err != nil {
		return 0
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0
	}
	return uint16(port)
}

// redirected is a connection with the address that its client wanted.
type redirected struct {
	net.Conn
	original netip.AddrPort
	release  func()
}

// Close implements net.Conn.
func (r redirected) Close() error {
	r.release()
	return r.Conn.Close()
}

// redirectedListener accepts connections that the namespace has redirected, up to checkedMax at a time.
type redirectedListener struct {
	net.Listener
	originalOf func(net.Conn) (netip.AddrPort, error)
	free       chan struct{}
}

func newRedirectedListener(listener net.Listener, originalOf func(net.Conn) (netip.AddrPort, error)) net.Listener {
	return redirectedListener{Listener: listener, originalOf: originalOf, free: make(chan struct{}, checkedMax)}
}

func (l redirectedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		original, err := l.originalOf(conn)
		if err != nil {
			reset(conn)
			continue
		}
		select {
		case l.free <- struct{}{}:
			release := sync.OnceFunc(func() { <-l.free })
			return redirected{Conn: conn, original: original, release: release}, nil
		default:
			reset(conn)
		}
	}
}
