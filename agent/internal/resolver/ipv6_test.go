package resolver

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"
)

// never6 has what no answer may have: IPv4-mapped addresses and NAT64, and private networks.
var never6 = []netip.Prefix{netip.MustParsePrefix("::/3"), netip.MustParsePrefix("8000::/1")}

func TestIPv6AddressesAreAnsweredAndReachableIfTheGuestHasIPv6(t *testing.T) {
	asked := upstream(t, records(t, "a.example. 600 IN CNAME b.test.", "b.test. 60 IN AAAA 2001:db8::1",
		"b.test. 60 IN AAAA fd00:ec2::254", "b.test. 60 IN AAAA ::ffff:198.51.100.7", "b.test. 60 IN AAAA 64:ff9b::a01:203",
		"b.test. 60 IN AAAA fe80::1", "b.test. 60 IN A 198.51.100.7"))
	learner := &recorder{}
	parser := configured(learner, asked, true)
	config := *parser.config.Load()
	if reply := parser.answer(t.Context(), query("a.example.", dns.TypeAAAA)); len(reply.Answer) != 0 || reply.Rcode != 0 {
		t.Errorf("without IPv6: %v", reply)
	}
	config.IPv6, config.Never = true, never6
	parser.Configure(config)
	reply := parser.answer(t.Context(), query("a.example.", dns.TypeAAAA))
	want := []string{"a.example. 60 IN CNAME b.test.", "b.test. 60 IN AAAA 2001:db8::1"}
	if got := answersOf(reply); !slices.Equal(got, want) {
		t.Errorf("answered %q", got)
	}
	if !slices.Equal(learner.addresses, []string{"2001:db8::1"}) {
		t.Errorf("learned %v", learner.addresses)
	}
	if reply := parser.answer(t.Context(), query("a.other.", dns.TypeAAAA)); reply.Rcode != dns.RcodeRefused {
		t.Errorf("another name: %v", reply)
	}
}

func TestTheGuardPutsEachAddressIntoTheSetOfItsFamily(t *testing.T) {
	r := startGuard(t)
	r.configureWith(t, `"ipv6":true,"never":["fc00::/7"],"rules":[{"domain":"*.example","set":"names0","set6":"names0v6"}]`)
	for _, address := range []string{"198.51.100.7", "2001:db8::1"} {
		if !r.learn(t, "*.example", address) {
			t.Errorf("%s is refused", address)
		}
	}
	for _, address := range []string{"fd00:ec2::254", "::ffff:198.51.100.8", "2001:db8::2%eth0"} {
		if r.learn(t, "*.example", address) {
			t.Errorf("%s is allowed", address)
		}
	}
	for set, address := range map[string]string{"names0": "198.51.100.7", "names0v6": "2001:db8::1"} {
		if got := r.sets.allowed[set]; !slices.Equal(got, []string{address}) {
			t.Errorf("%s: %v", set, got)
		}
	}
	r.configureWith(t, `"ipv6":true,"never":[],"rules":[{"domain":"*.example","set":"names1","set6":"names1v6"}]`)
	if got := r.sets.allowed["names1v6"]; !slices.Equal(got, []string{"2001:db8::1"}) {
		t.Errorf("in the next policy: %v", got)
	}
}

func TestAConfigurationWithIPv6HasItsSets(t *testing.T) {
	config := Config{Upstream: netip.MustParseAddrPort("192.0.2.53:53"), Rules: []Rule{{Domain: "a", Set: "names0"}}}
	if err := config.Check(); err != nil {
		t.Error(err)
	}
	config.IPv6 = true
	if err := config.Check(); err == nil {
		t.Error("it was taken")
	}
}

func TestACheckedConnectionGoesToAnAddressOfTheFamilyThatTheGuestWanted(t *testing.T) {
	peer, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("this machine has no IPv6")
	}
	defer peer.Close()
	port := netip.MustParseAddrPort(peer.Addr().String()).Port()
	parser, config, learner := checkedParser(t, port)
	config.IPv6 = true
	config.Upstream = upstream(t, records(t, "a.example. 60 IN AAAA ::1", "a.example. 60 IN A 127.0.0.1"))
	parser.Configure(*config)
	to := target{name: "a.example", port: port, check: CheckTLS}
	conn, err := parser.connect(t.Context(), to, netip.MustParseAddr("2001:db8::1"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if conn.RemoteAddr().String() != peer.Addr().String() || !slices.Equal(learner.addresses, []string{"::1"}) {
		t.Errorf("connected to %v, learned %v", conn.RemoteAddr(), learner.addresses)
	}
	if conn, err := parser.connect(t.Context(), to, netip.MustParseAddr("198.51.100.7")); err == nil {
		conn.Close()
		t.Error("nothing listens for IPv4")
	}
}
