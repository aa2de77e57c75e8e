package identity

import (
	"context"
	"os"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var network6 = Network{
	Interface: "eth0", Addresses: []string{"192.0.0.2/29"}, Gateway: "192.0.0.1",
	Address6: "2001:db8::2/126", Gateway6: "2001:db8::1",
}

// addresses6 returns the addresses of a link that are not the kernel's own, and the gateways of its routes.
func addresses6(t *testing.T, link netlink.Link) []string {
	t.Helper()
	var found []string
	list, err := netlink.AddrList(link, netlink.FAMILY_V6)
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range list {
		if address.Flags&unix.IFA_F_TENTATIVE != 0 && !address.IP.IsLinkLocalUnicast() {
			t.Errorf("%s cannot be used yet", address.IPNet)
		}
		if !address.IP.IsLinkLocalUnicast() {
			found = append(found, address.IPNet.String())
		}
	}
	routes, err := netlink.RouteList(link, netlink.FAMILY_V6)
	if err != nil {
		t.Fatal(err)
	}
	for _, route := range routes {
		if route.Gw != nil {
			found = append(found, "by "+route.Gw.String())
		}
	}
	return found
}

func TestAGuestHasExactlyTheIPv6AddressAndGatewayOfTheHost(t *testing.T) {
	link := inNewNetwork(t)
	setUp := func(network Network, want ...string) {
		t.Helper()
		if err := (&Linux{}).SetUpNetwork(context.Background(), network); err != nil {
			t.Fatal(err)
		}
		if got := addresses6(t, link); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	for range 2 {
		setUp(network6, "2001:db8::2/126", "by 2001:db8::1")
	}
	other := network6
	other.Address6, other.Gateway6 = "2001:db8::6/126", "2001:db8::5"
	setUp(other, "2001:db8::6/126", "by 2001:db8::5")
	without := network6
	without.Address6, without.Gateway6 = "", ""
	setUp(without)
	for _, setting := range []string{"accept_ra", "autoconf"} {
		if text, err := os.ReadFile(conf6 + "/eth0/" + setting); err != nil || string(text) != "0\n" {
			t.Errorf("%s is %q, %v", setting, text, err)
		}
	}
}

func TestAGuestWhoseUserDisabledIPv6HasItsIPv4Network(t *testing.T) {
	link := inNewNetwork(t)
	if err := os.WriteFile(conf6+"/eth0/disable_ipv6", []byte("1"), 0); err != nil {
		t.Skipf("this kernel has no IPv6: %v", err)
	}
	if err := (&Linux{}).SetUpNetwork(context.Background(), network6); err != nil {
		t.Fatal(err)
	}
	if got := addresses6(t, link); got != nil {
		t.Errorf("got %v", got)
	}
	if list, err := netlink.AddrList(link, netlink.FAMILY_V4); err != nil || len(list) != 1 {
		t.Errorf("got %v, %v", list, err)
	}
}

func TestAWrongIPv6AddressLeavesTheIPv4NetworkAsItIs(t *testing.T) {
	link := inNewNetwork(t)
	wrong := network6
	wrong.Address6 = "2001:db8::/129"
	if err := (&Linux{}).SetUpNetwork(context.Background(), wrong); err == nil {
		t.Error("it was taken")
	}
	routes, err := netlink.RouteList(link, netlink.FAMILY_V4)
	if err != nil || !slices.ContainsFunc(routes, func(route netlink.Route) bool { return route.Gw != nil }) {
		t.Errorf("got %v, %v", routes, err)
	}
}
