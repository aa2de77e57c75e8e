package vmnet

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Neighbours on the link between the namespace and the host are permanent, and so is the guest for its namespace: no link
// of Hearth but the guest's own looks for others, and nobody can answer in their place.

// The MAC addresses of the link between the namespace of a VM and the host. It has two ends, so all have the same.
var (
	uplinkMAC   = net.HardwareAddr{2, 0, 0, 0, 0, 2}
	hostLinkMAC = net.HardwareAddr{2, 0, 0, 0, 0, 3}
)

// hostGateway6 is the host, for the namespace. No link has this address: its MAC address is all that is needed.
var hostGateway6 = netip.MustParseAddr("fe80::1")

// addressesByNone is IN6_ADDR_GEN_MODE_NONE of linux/if_link.h.
const addressesByNone = 1

// links6 makes the IPv6 part of the links of one namespace.
type links6 struct {
	handle *netlink.Handle
	// hasIPv6 is false where new links have none.
	hasIPv6 bool
}

// links6Here returns that of this thread's namespace.
func links6Here() (links6, error) {
	hasIPv6, err := newLinksHave6()
	if err != nil {
		return links6{}, err
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	return links6{handle: handle, hasIPv6: hasIPv6}, err
}

// noOwnAddress keeps the kernel from giving a link an address. Call it before the link is up.
func (l links6) noOwnAddress(link netlink.Link) error {
	if !l.hasIPv6 {
		return nil
	}
	return l.handle.LinkSetIP6AddrGenMode(link, addressesByNone)
}

// setCard gives the namespace's end of the card its address, which answers the guest also if the host has no IPv6.
func (l links6) setCard(tap netlink.Link, inside Inside) error {
	if !l.hasIPv6 {
		return nil
	}
	if err := l.addAddress(tap, inside.Address6); err != nil {
		return err
	}
	mac, err := net.ParseMAC(inside.GuestMAC)
	if err != nil {
		return err
	}
	return l.addNeighbour(tap, inside.Guest6, mac)
}

// setUplink connects the namespace with the host. Without it, IPv6 fails at once.
func (l links6) setUplink(uplink netlink.Link, address netip.Addr) error {
	if err := l.addAddress(uplink, single(address)); err != nil {
		return err
	}
	if err := l.addNeighbour(uplink, hostGateway6, hostLinkMAC); err != nil {
		return err
	}
	return l.handle.RouteAdd(&netlink.Route{
		LinkIndex: uplink.Attrs().Index, Gw: hostGateway6.AsSlice(), Flags: int(netlink.FLAG_ONLINK),
	})
}

// setHost leads the address of a VM to the host's end of its link.
func (l links6) setHost(link netlink.Link, address netip.Addr) error {
	if err := addRoute(l.handle, link, address); err != nil {
		return err
	}
	return l.addNeighbour(link, address, uplinkMAC)
}

// addAddress adds an address that is used at once: nobody else can have it.
func (l links6) addAddress(link netlink.Link, prefix netip.Prefix) error {
	address := addressOf(prefix)
	address.Flags = unix.IFA_F_NODAD
	return l.handle.AddrAdd(link, address)
}

func (l links6) addNeighbour(link netlink.Link, address netip.Addr, mac net.HardwareAddr) error {
	return l.handle.NeighAdd(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, Family: unix.AF_INET6, State: netlink.NUD_PERMANENT,
		IP: address.AsSlice(), HardwareAddr: mac,
	})
}

// address6 returns the IPv6 address of the VM with an IPv4 address.
func (n Network) address6(address netip.Addr) netip.Addr {
	bytes := n.Network6.Masked().Addr().As16()
	ipv4 := address.As4()
	copy(bytes[12:], ipv4[:])
	return netip.AddrFrom16(bytes)
}
