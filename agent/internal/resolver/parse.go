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

// Parse serves queries until the guard has ended.
func Parse(udp net.PacketConn, tcp net.Listener, guard io.ReadWriter) error {
	client := &guardClient{lines: newLines(guard), waiting: map[uint64]chan bool{}}
	parser := NewParser(client)
	failed := make(chan error, 3)
	go func() {
		server := dns.Server{PacketConn: udp, Handler: parser}
		failed <- server.ActivateAndServe()
	}()
	go func() {
		server := dns.Server{
			Listener: netutil.LimitListener(tcp, connectionsMax), Handler: parser,
			IdleTimeout: func() time.Duration { return idleTimeout },
		}
		failed <- server.ActivateAndServe()
	}()
	go func() {
		for {
			var message toParser
			if err := client.lines.read(&message); err != nil {
				failed <- err
				return
			}
			if message.Config != nil {
				parser.Configure(*message.Config)
				if err := client.lines.write(toGuard{Configured: true}); err != nil {
					failed <- err
					return
				}
			}
			if message.Learned != nil {
				client.answered(*message.Learned)
			}
		}
	}()
	if err := <-failed; !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
