package resolver

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	// inFlightMax is the limit of queries that wait for an answer; further ones are dropped, and asked again.
	inFlightMax     = 64
	upstreamTimeout = 2 * time.Second
	tries           = 2
	// udpSize is the size of an answer that no network splits into fragments (DNS flag day 2020).
	udpSize = 1232
	// chainMax is the limit of aliases between a name and its addresses.
	chainMax     = 16
	addressesMax = 64
	// ttlMax bounds how long a guest keeps an address, in seconds.
	ttlMax = 3600
)

// passed has the types of records that are answered as upstream has them. They have no addresses.
var passed = map[uint16]bool{
	dns.TypeCAA: true, dns.TypeCNAME: true, dns.TypeMX: true, dns.TypeNS: true,
	dns.TypePTR: true, dns.TypeSOA: true, dns.TypeSRV: true, dns.TypeTXT: true,
}

// Learner makes the addresses of domains reachable.
type Learner interface {
	// Learn returns when the addresses are reachable.
	Learn(ctx context.Context, domains []Domain, addresses []netip.Addr, ttl uint32) error
}

// Finder finds the VMs on the private networks.
type Finder interface {
	Find(ctx context.Context, name string) (found, error)
}

// Parser answers queries. Its configuration may change at any time.
type Parser struct {
	learner Learner
	finder  Finder
	config  atomic.Pointer[Config]
	free    chan struct{}
	checked checked
}

// NewParser returns a parser that answers nothing before it is configured.
func NewParser(learner Learner, finder Finder) *Parser {
	return &Parser{learner: learner, finder: finder, free: make(chan struct{}, inFlightMax)}
}

// Configure replaces the configuration.
func (p *Parser) Configure(config Config) {
	p.config.Store(&config)
	p.checked.cut(config)
}

// ServeDNS answers one query.
func (p *Parser) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	select {
	case p.free <- struct{}{}:
	default:
		return
	}
	defer func() { <-p.free }()
	reply := p.answer(context.Background(), query)
	size := dns.MaxMsgSize
	if w.RemoteAddr().Network() == "udp" {
		size = dns.MinMsgSize
		if asked := query.IsEdns0(); asked != nil {
			size = min(max(int(asked.UDPSize()), dns.MinMsgSize), udpSize)
		}
	}
	reply.Truncate(size)
	// The guest may have gone.
	_ = w.WriteMsg(reply)
}

// answer returns the reply to a query.
func (p *Parser) answer(ctx context.Context, query *dns.Msg) *dns.Msg {
	reply := new(dns.Msg)
	reply.SetReply(query)
	reply.RecursionAvailable = true
	if query.IsEdns0() != nil {
		reply.SetEdns0(udpSize, false)
	}
	fail := func(code int) *dns.Msg {
		reply.Answer = nil
		reply.Rcode = code
		return reply
	}
	config := p.config.Load()
	if config == nil {
		return fail(dns.RcodeServerFailure)
	}
	if query.Response || query.Opcode != dns.OpcodeQuery {
		return fail(dns.RcodeNotImplemented)
	}
	if len(query.Question) != 1 || query.Question[0].Qclass != dns.ClassINET {
		return fail(dns.RcodeFormatError)
	}
	question := query.Question[0]
	if name, isNeighbour := neighbourOf(normal(question.Name)); isNeighbour {
		if err := p.answerNeighbour(ctx, reply, question, name); err != nil {
			return fail(dns.RcodeServerFailure)
		}
		return reply
	}
	domains := config.domainsOf(normal(question.Name))
	if len(domains) == 0 && config.RefuseOthers {
		return fail(dns.RcodeRefused)
	}
	// Every other type has addresses that are not enforced, such as HTTPS, or asks for all of them.
	hasAddresses := question.Qtype == dns.TypeA || question.Qtype == dns.TypeAAAA && config.IPv6
	if !hasAddresses && !passed[question.Qtype] {
		return reply
	}
	found, err := ask(ctx, config.Upstream, question)
	if err != nil {
		return fail(dns.RcodeServerFailure)
	}
	if found.Rcode != dns.RcodeSuccess && found.Rcode != dns.RcodeNameError {
		return fail(dns.RcodeServerFailure)
	}
	reply.Rcode = found.Rcode
	records, addresses, ttl := chain(found, question, config.mayLearn)
	reply.Answer = records
	if len(addresses) > 0 && len(domains) > 0 {
		if err := p.learner.Learn(ctx, domains, addresses, ttl); err != nil {
			return fail(dns.RcodeServerFailure)
		}
	}
	return reply
}

var errNoUpstream = errors.New("the host has no resolver")

// ask returns upstream's answer to a question.
func ask(ctx context.Context, upstream netip.AddrPort, question dns.Question) (*dns.Msg, error) {
	if !upstream.IsValid() {
		return nil, errNoUpstream
	}
	query := new(dns.Msg)
	query.Id = dns.Id()
	query.RecursionDesired = true
	query.Question = []dns.Question{question}
	query.SetEdns0(udpSize, false)
	var failed error
	for range tries {
		udp := dns.Client{Net: "udp", Timeout: upstreamTimeout, UDPSize: udpSize}
		found, _, err := udp.ExchangeContext(ctx, query, upstream.String())
		if err == nil && found.Truncated {
			tcp := dns.Client{Net: "tcp", Timeout: upstreamTimeout}
			found, _, err = tcp.ExchangeContext(ctx, query, upstream.String())
		}
		if err == nil {
			return found, nil
		}
		failed = err
	}
	return nil, failed
}

// chain returns the records that answer a question: aliases, and what the last of them has of the wanted type. The TTL
// is the shortest of them, which all have.
func chain(found *dns.Msg, question dns.Question, mayLearn func(netip.Addr) bool) ([]dns.RR, []netip.Addr, uint32) {
	var records []dns.RR
	var addresses []netip.Addr
	ttl := uint32(ttlMax)
	take := func(record dns.RR) {
		records = append(records, record)
		ttl = min(ttl, record.Header().Ttl)
	}
	name := normal(question.Name)
	for range chainMax {
		alias := ""
		for _, record := range found.Answer {
			if normal(record.Header().Name) != name {
				continue
			}
			if target, isAlias := record.(*dns.CNAME); isAlias && question.Qtype != dns.TypeCNAME {
				if alias == "" {
					take(record)
					alias = normal(target.Target)
				}
				continue
			}
			if record.Header().Rrtype != question.Qtype {
				continue
			}
			if isAddressType(question.Qtype) {
				address, isValid := addressOf(record)
				if !isValid || !mayLearn(address) || len(addresses) == addressesMax {
					continue
				}
				addresses = append(addresses, address)
			}
			take(record)
		}
		if alias == "" {
			break
		}
		name = alias
	}
	for _, record := range records {
		record.Header().Ttl = ttl
	}
	return records, addresses, ttl
}

func isAddressType(kind uint16) bool { return kind == dns.TypeA || kind == dns.TypeAAAA }

// addressOf returns the address of a record. An IPv6 address stays one if it contains an IPv4 address.
func addressOf(record dns.RR) (netip.Addr, bool) {
	switch record := record.(type) {
	case *dns.A:
		return netip.AddrFromSlice(record.A.To4())
	case *dns.AAAA:
		return netip.AddrFromSlice(record.AAAA.To16())
	}
	return netip.Addr{}, false
}
