package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

const (
	// handshakeTimeout bounds the time until a client has said which name it wants, and until that peer has answered.
	handshakeTimeout = 10 * time.Second
	// checkedMax is the limit of connections of each kind and family.
	checkedMax = 2048
	// ip6tOriginalDst is IP6T_SO_ORIGINAL_DST of the kernel.
	ip6tOriginalDst = 80
)

// Check is what a rule demands of a connection besides its address.
type Check string

// The checks: the name of a TLS handshake, and that of each HTTP request, have to be of the rule's domain.
const (
	CheckTLS  Check = "tls"
	CheckHTTP Check = "http"
)

var errDenied = errors.New("the policy does not allow the host")

// checked has the connections to peers that passed a check, for the time when the policy changes.
type checked struct {
	mutex sync.Mutex
	open  map[*peer]target
}

// peer is a connection to what a target names.
type peer struct {
	*net.TCPConn
	checked *checked
}

// Close implements net.Conn.
func (p *peer) Close() error {
	p.checked.mutex.Lock()
	delete(p.checked.open, p)
	p.checked.mutex.Unlock()
	return p.TCPConn.Close()
}

// target is what a connection is for.
type target struct {
	name  string
	port  uint16
	check Check
}

// add remembers a connection, and tells whether the configuration, which may have changed since the check, allows it.
func (c *checked) add(conn *peer, to target, config *atomic.Pointer[Config]) bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if len(config.Load().allowing(to)) == 0 {
		return false
	}
	if c.open == nil {
		c.open = map[*peer]target{}
	}
	c.open[conn] = to
	return true
}

// cut resets the connections that a configuration does not allow.
func (c *checked) cut(config Config) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for conn, to := range c.open {
		if len(config.allowing(to)) == 0 {
			reset(conn.TCPConn)
			delete(c.open, conn)
		}
	}
}

// allowing returns the domains of the rules that allow a target.
func (c Config) allowing(to target) []Domain {
	var found []Domain
	for _, rule := range c.Rules {
		if rule.Check == to.check && rule.First <= to.port && to.port <= rule.Last &&
			rule.Domain.Matches(to.name) && !slices.Contains(found, rule.Domain) {
			found = append(found, rule.Domain)
		}
	}
	return found
}

// connect checks a target, and connects to it at an address that its name has now, of the family of the wanted one. The
// wanted address is taken if it is one of them.
func (p *Parser) connect(ctx context.Context, to target, wanted netip.Addr) (*peer, error) {
	config := p.config.Load()
	if config == nil {
		return nil, errors.New("there is no policy yet")
	}
	domains := config.allowing(to)
	if len(domains) == 0 {
		return nil, fmt.Errorf("%w: %q", errDenied, to.name)
	}
	question := dns.Question{Name: dns.Fqdn(to.name), Qtype: dns.TypeA, Qclass: dns.ClassINET}
	if wanted.Is6() {
		question.Qtype = dns.TypeAAAA
	}
	found, err := ask(ctx, config.Upstream, question)
	if err != nil {
		return nil, err
	}
	_, addresses, ttl := chain(found, question, config.mayLearn)
	if len(addresses) == 0 {
		return nil, fmt.Errorf("%q has no address", to.name)
	}
	if err := p.learner.Learn(ctx, domains, addresses, ttl); err != nil {
		return nil, err
	}
	address := addresses[0]
	if slices.Contains(addresses, wanted) {
		address = wanted
	}
	dialer := net.Dialer{Timeout: handshakeTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(address, to.port).String())
	if err != nil {
		return nil, err
	}
	connected := &peer{TCPConn: conn.(*net.TCPConn), checked: &p.checked}
	if !p.checked.add(connected, to, &p.config) {
		reset(conn)
		return nil, fmt.Errorf("%w any more: %q", errDenied, to.name)
	}
	return connected, nil
}

// originalOf returns where a client connected to, before the namespace redirected it.
func originalOf(conn net.Conn) (netip.AddrPort, error) {
	isIPv6 := netip.MustParseAddrPort(conn.LocalAddr().String()).Addr().Is6()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	var found netip.AddrPort
	var failed error
	err = raw.Control(func(fd uintptr) {
		if isIPv6 {
			found, failed = original6(int(fd))
			return
		}
		// A sockaddr_in, which is shorter than this structure: family, port, address.
		value, err := unix.GetsockoptIPv6Mreq(int(fd), unix.SOL_IP, unix.SO_ORIGINAL_DST)
		if err != nil {
			failed = err
			return
		}
		bytes := value.Multiaddr
		found = netip.AddrPortFrom(
			netip.AddrFrom4([4]byte(bytes[4:8])), uint16(bytes[2])<<8|uint16(bytes[3]),
		)
	})
	return found, errors.Join(err, failed)
}

// original6 is originalOf for IPv6.
func original6(fd int) (netip.AddrPort, error) {
	// A sockaddr_in6, with which this structure begins.
	value, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, ip6tOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, value.Addr.Port))
	return netip.AddrPortFrom(netip.AddrFrom16(value.Addr.Addr), port), nil
}

// reset closes a connection so that its peer knows that it did not end in order.
func reset(conn net.Conn) {
	if tcp, isTCP := conn.(interface{ SetLinger(int) error }); isTCP {
		// It may be closed already.
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
