package resolver

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// controlTimeout bounds one exchange with the helper.
const controlTimeout = 10 * time.Second

// request is a message of the helper.
type request struct {
	// Op is "learned", "configure" or "end".
	Op     string  `json:"op"`
	Config *Config `json:"config,omitempty"`
}

// learnedAddress is an address that is reachable because of a domain, for this many more seconds.
type learnedAddress struct {
	Domain  Domain     `json:"domain"`
	Address netip.Addr `json:"address"`
	Seconds int        `json:"seconds"`
}

// response is the answer to a request. Error is empty if all went well.
type response struct {
	Error   string           `json:"error,omitempty"`
	Learned []learnedAddress `json:"learned,omitempty"`
}

// Guard changes the sets of the VM's policy.
type Guard struct {
	sets       Sets
	neighbours neighbours
	parser     *lines
	configured chan struct{}
	now        func() time.Time

	mutex  sync.Mutex
	config Config
	memory memory
}

// NewGuard returns a guard for the parser at the other end of a stream.
func NewGuard(sets Sets, networks neighbours, parser io.ReadWriter) *Guard {
	return &Guard{
		sets: sets, neighbours: networks, parser: newLines(parser), configured: make(chan struct{}, 1), now: time.Now, memory: memory{},
	}
}

// Serve serves the parser and the helper until the parser ends, or the helper ends both.
func (g *Guard) Serve(control net.Listener) error {
	failed := make(chan error, 2)
	go func() { failed <- g.serveParser() }()
	go func() {
		for {
			conn, err := control.Accept()
			if err != nil {
				failed <- err
				return
			}
			if g.serveControl(conn) {
				failed <- io.EOF
				return
			}
		}
	}()
	if err := <-failed; !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func (g *Guard) serveParser() error {
	for {
		var message toGuard
		if err := g.parser.read(&message); err != nil {
			return err
		}
		if message.Configured {
			select {
			case g.configured <- struct{}{}:
			default:
			}
		}
		if message.Learn != nil {
			err := g.learn(*message.Learn)
			if err := g.parser.write(toParser{Learned: &learned{ID: message.Learn.ID, OK: err == nil}}); err != nil {
				return err
			}
		}
		if message.Find != nil {
			if err := g.parser.write(toParser{Found: g.find(*message.Find)}); err != nil {
				return err
			}
		}
	}
}

// find looks a VM up.
func (g *Guard) find(wanted find) *found {
	g.mutex.Lock()
	own := g.config.Guest
	g.mutex.Unlock()
	result, err := g.neighbours.find(wanted.Name, own)
	if err != nil {
		result = found{Failed: true}
	}
	result.ID = wanted.ID
	return &result
}

// learn makes addresses of domains of the policy reachable.
func (g *Guard) learn(wanted learn) error {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	now := g.now()
	for _, domain := range wanted.Domains {
		for _, address := range wanted.Addresses {
			if !g.mayLearn(domain, address) {
				return fmt.Errorf("%v may be no address of a name", address)
			}
			if g.memory.needs(domain, address, wanted.TTL, now) {
				if err := g.allow(domain, address, keep(domain, wanted.TTL), now); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// mayLearn tells whether an address may be one of a domain. Those of VMs are known here.
func (g *Guard) mayLearn(domain Domain, address netip.Addr) bool {
	if !domain.isNeighbour() {
		return g.config.mayLearn(address)
	}
	name, _ := neighbourOf(string(domain))
	result, err := g.neighbours.find(name, g.config.Guest)
	return err == nil && slices.Contains(result.Addresses, address)
}

// allow puts an address into all sets of a domain, and remembers it.
func (g *Guard) allow(domain Domain, address netip.Addr, keep time.Duration, now time.Time) error {
	sets := g.config.setsOf(domain, address)
	if len(sets) == 0 {
		return fmt.Errorf("no rule has the domain %q", domain)
	}
	if err := g.memory.put(domain, address, now.Add(keep), now); err != nil {
		return err
	}
	for _, set := range sets {
		if err := g.sets.Allow(set, address, keep); err != nil {
			delete(g.memory[domain], address)
			return err
		}
	}
	return nil
}

// serveControl answers one request, and tells whether it was the last.
func (g *Guard) serveControl(conn net.Conn) (isLast bool) {
	defer conn.Close()
	// A peer that says nothing must not keep others waiting.
	if err := conn.SetDeadline(time.Now().Add(controlTimeout)); err != nil {
		return false
	}
	stream := newLines(conn)
	var asked request
	if err := stream.read(&asked); err != nil {
		return false
	}
	answer := response{}
	switch asked.Op {
	case "learned":
		answer.Learned = g.learned()
	case "configure":
		if err := g.configure(asked.Config); err != nil {
			answer.Error = err.Error()
		}
	case "end":
		isLast = true
	default:
		answer.Error = fmt.Sprintf("%q is no request", asked.Op)
	}
	// The helper may have gone.
	_ = stream.write(answer)
	return isLast
}

// learned returns what is reachable because of domains.
func (g *Guard) learned() []learnedAddress {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	now := g.now()
	found := []learnedAddress{}
	for domain, addresses := range g.memory {
		for address, end := range addresses {
			if left := int(end.Sub(now) / time.Second); left > 0 {
				found = append(found, learnedAddress{Domain: domain, Address: address, Seconds: left})
			}
		}
	}
	return found
}

// configure replaces the configuration, after the policy with its sets. What was learned while the policy was replaced
// is in the new sets then, too.
func (g *Guard) configure(config *Config) error {
	if config == nil {
		return errors.New("there is no configuration")
	}
	if err := config.Check(); err != nil {
		return err
	}
	if err := g.adopt(*config); err != nil {
		return err
	}
	select {
	case <-g.configured:
	default:
	}
	if err := g.parser.write(toParser{Config: config}); err != nil {
		return err
	}
	select {
	case <-g.configured:
		return nil
	case <-time.After(controlTimeout):
		return errors.New("the parser does not answer")
	}
}

func (g *Guard) adopt(config Config) error {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.config = config
	g.memory.only(config)
	now := g.now()
	for domain, addresses := range g.memory {
		for address, end := range addresses {
			left := end.Sub(now)
			if left < time.Second {
				delete(addresses, address)
				continue
			}
			if err := g.allow(domain, address, left, now); err != nil {
				return err
			}
		}
	}
	return nil
}
