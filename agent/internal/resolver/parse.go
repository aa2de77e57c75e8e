package resolver

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/netutil"
)

const (
	connectionsMax = 32
	idleTimeout    = 10 * time.Second
)

// guardClient is the guard, as the parser sees it.
type guardClient struct {
	lines   *lines
	mutex   sync.Mutex
	last    uint64
	waiting map[uint64]chan bool
}

// Learn implements Learner.
func (g *guardClient) Learn(ctx context.Context, domains []Domain, addresses []netip.Addr, ttl uint32) error {
	answered := make(chan bool, 1)
	g.mutex.Lock()
	g.last++
	id := g.last
	g.waiting[id] = answered
	g.mutex.Unlock()
	defer func() {
		g.mutex.Lock()
		delete(g.waiting, id)
		g.mutex.Unlock()
	}()
	if err := g.lines.write(toGuard{Learn: &learn{ID: id, Domains: domains, Addresses: addresses, TTL: ttl}}); err != nil {
		return err
	}
	select {
	case isLearned := <-answered:
		if !isLearned {
			return errors.New("the addresses cannot be made reachable")
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *guardClient) answered(answer learned) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if waiting, isWaiting := g.waiting[answer.ID]; isWaiting {
		waiting <- answer.OK
		delete(g.waiting, answer.ID)
	}
}

// Listeners are where the guest reaches the parser.
type Listeners struct {
	UDP net.PacketConn
	TCP net.Listener
	// TLS and HTTP have the connections that the namespace redirects to a check, of one family each.
	TLS, HTTP []net.Listener
}

// Parse serves the guest until the guard has ended.
func Parse(listeners Listeners, guard io.ReadWriter) error {
	client := &guardClient{lines: newLines(guard), waiting: map[uint64]chan bool{}}
	parser := NewParser(client)
	failed := make(chan error, 3+len(listeners.TLS)+len(listeners.HTTP))
	serve := func(run func() error) {
		go func() { failed <- run() }()
	}
	serve((&dns.Server{PacketConn: listeners.UDP, Handler: parser}).ActivateAndServe)
	serve((&dns.Server{
		Listener: netutil.LimitListener(listeners.TCP, connectionsMax), Handler: parser,
		IdleTimeout: func() time.Duration { return idleTimeout },
	}).ActivateAndServe)
	for _, listener := range listeners.TLS {
		serve(func() error { return parser.serveTLS(listener) })
	}
	for _, listener := range listeners.HTTP {
		serve(func() error { return parser.HTTP().Serve(newRedirectedListener(listener, originalOf)) })
	}
	serve(func() error { return client.serve(parser) })
	if err := <-failed; !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// serve reads the messages of the guard.
func (g *guardClient) serve(parser *Parser) error {
	for {
		var message toParser
		if err := g.lines.read(&message); err != nil {
			return err
		}
		if message.Config != nil {
			parser.Configure(*message.Config)
			if err := g.lines.write(toGuard{Configured: true}); err != nil {
				return err
			}
		}
		if message.Learned != nil {
			g.answered(*message.Learned)
		}
	}
}
