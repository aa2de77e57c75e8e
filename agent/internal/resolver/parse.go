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
	lines    *lines
	learning waiting[bool]
	finding  waiting[found]
}

// Learn implements Learner.
func (g *guardClient) Learn(ctx context.Context, domains []Domain, addresses []netip.Addr, ttl uint32) error {
	isLearned, err := g.learning.ask(ctx, func(id uint64) error {
		return g.lines.write(toGuard{Learn: &learn{ID: id, Domains: domains, Addresses: addresses, TTL: ttl}})
	})
	if err == nil && !isLearned {
		return errors.New("the addresses cannot be made reachable")
	}
	return err
}

// Find implements Finder.
func (g *guardClient) Find(ctx context.Context, name string) (found, error) {
	return g.finding.ask(ctx, func(id uint64) error {
		return g.lines.write(toGuard{Find: &find{ID: id, Name: name}})
	})
}

// waiting has the questions to the guard that are not answered yet.
type waiting[Answer any] struct {
	mutex   sync.Mutex
	last    uint64
	answers map[uint64]chan Answer
}

func (w *waiting[Answer]) ask(ctx context.Context, write func(id uint64) error) (Answer, error) {
	answered := make(chan Answer, 1)
	w.mutex.Lock()
	w.last++
	id := w.last
	if w.answers == nil {
		w.answers = map[uint64]chan Answer{}
	}
	w.answers[id] = answered
	w.mutex.Unlock()
	defer func() {
		w.mutex.Lock()
		delete(w.answers, id)
		w.mutex.Unlock()
	}()
	var none Answer
	if err := write(id); err != nil {
		return none, err
	}
	select {
	case answer := <-answered:
		return answer, nil
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

func (w *waiting[Answer]) answered(id uint64, answer Answer) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if asked, isWaiting := w.answers[id]; isWaiting {
		asked <- answer
		delete(w.answers, id)
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
	client := &guardClient{lines: newLines(guard)}
	parser := NewParser(client, client)
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
			g.learning.answered(message.Learned.ID, message.Learned.OK)
		}
		if message.Found != nil {
			g.finding.answered(message.Found.ID, *message.Found)
		}
	}
}
