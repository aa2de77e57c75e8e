package uplink

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func route(kind int, cidr string) netlink.Route {
	address, network, err := net.ParseCIDR(cidr)
	if err != nil {
		panic(err)
	}
	return netlink.Route{Type: kind, Dst: &net.IPNet{IP: address, Mask: network.Mask}}
}

func TestTheHostsOwnNetworksAreThoseThatItTakesItself(t *testing.T) {
	found := ownNetworks([]netlink.Route{
		route(unix.RTN_LOCAL, "203.0.113.2/32"),
		route(unix.RTN_BROADCAST, "203.0.113.255/32"),
		route(unix.RTN_LOCAL, "127.0.0.0/8"),
		// A host may take a whole network: ip route add local 198.51.100.0/24 dev lo.
		route(unix.RTN_LOCAL, "198.51.100.9/24"),
		route(unix.RTN_LOCAL, "203.0.113.2/32"),
		route(unix.RTN_MULTICAST, "224.0.0.0/4"),
		{Type: unix.RTN_LOCAL},
	})
	wanted := []string{"127.0.0.0/8", "198.51.100.0/24", "203.0.113.2/32", "203.0.113.255/32"}
	if !slices.Equal(found, wanted) {
		t.Errorf("found %v, not %v", found, wanted)
	}
}

func TestTheRulesNameTheHostsNetworksAndThoseThatAlwaysLeadToIt(t *testing.T) {
	program := rules("tap0", []string{"203.0.113.2/32"})
	for _, part := range []string{
		"elements = { 0.0.0.0/8, 127.0.0.0/8, 255.255.255.255/32, 203.0.113.2/32 };",
		`iifname "tap0" ct direction original ip daddr @host reject`,
		`oifname != { "lo", "tap0" } ip daddr @host drop`,
	} {
		if !strings.Contains(program, part) {
			t.Errorf("the rules lack %q:\n%s", part, program)
		}
	}
}

func TestAHostWithoutANetworkHasRules(t *testing.T) {
	if program := rules("tap0", nil); !strings.Contains(program, "255.255.255.255/32 };") {
		t.Errorf("the rules are wrong:\n%s", program)
	}
}
