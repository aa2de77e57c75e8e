package vmnet

import (
	"net/netip"
	"testing"
)

func TestTheIPv6AddressOfAVMContainsItsIPv4AddressWhichIsLeased(t *testing.T) {
	network := Network{Network6: netip.MustParsePrefix("fd59:6db4:8e91:1::/64")}
	for address, want := range map[string]string{
		"198.18.0.2":     "fd59:6db4:8e91:1::c612:2",
		"198.18.255.254": "fd59:6db4:8e91:1::c612:fffe",
	} {
		if got := network.address6(netip.MustParseAddr(address)).String(); got != want {
			t.Errorf("%s: got %s", address, got)
		}
	}
}
