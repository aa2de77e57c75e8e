package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The device may be found a moment after the agent has started.
const linkTimeout = 3 * time.Second

// SetUpNetwork brings up lo, and the interface with exactly the given addresses, gateway and MAC, and without neighbours
// of an earlier network.
func (k *Linux) SetUpNetwork(ctx context.Context, network Network) error {
	if k.isKnown(network) && changeMAC(network) == nil {
		return nil
	}
	k.network = Network{}
	if err := setUp(ctx, network); err != nil {
		return err
	}
	k.network = network
	return nil
}

func setUp(ctx context.Context, network Network) error {
	if lo, err := netlink.LinkByName("lo"); err != nil {
		return fmt.Errorf("lo: %w", err)
	} else if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	if network.Interface == "" {
		return nil
	}
	link, err := waitForLink(ctx, network.Interface)
	if err != nil {
		return err
	}
	if err := setMAC(link, network.MAC); err != nil {
		return err
	}
	if err := ignoreAdvertisements(link); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("%s: %w", network.Interface, err)
	}
	return errors.Join(setUpIPv4(link, network), setUpIPv6(link, network.Address6, network.Gateway6))
}

// setUpIPv4 gives an interface that is up exactly the given addresses and gateway.
func setUpIPv4(link netlink.Link, network Network) error {
	if err := replaceAddresses(link, network.Addresses); err != nil {
		return err
	}
	if err := flushNeighbours(link); err != nil {
		return err
	}
	if network.Gateway == "" {
		return nil
	}
	gateway := net.ParseIP(network.Gateway)
	if gateway == nil {
		return fmt.Errorf("%q is not an address", network.Gateway)
	}
	route := netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway}
	if err := netlink.RouteReplace(&route); err != nil {
		return fmt.Errorf("the route by %s: %w", network.Gateway, err)
	}
	return nil
}

// waitForLink finds the interface by its name. The guest's rules may have renamed it; so if there is only one beside
// lo, it is that one.
func waitForLink(ctx context.Context, name string) (netlink.Link, error) {
	ctx, cancel := context.WithTimeout(ctx, linkTimeout)
	defer cancel()
	for {
		link, err := netlink.LinkByName(name)
		if err == nil {
			return link, nil
		}
		links, listErr := netlink.LinkList()
		if listErr == nil && len(links) == 2 {
			for _, link := range links {
				if link.Attrs().Flags&net.FlagLoopback == 0 {
					return link, nil
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("there is no network interface %s: %w", name, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// setMAC sets the address without taking the interface down, which would remove the user's routes.
func setMAC(link netlink.Link, text string) error {
	if text == "" {
		return nil
	}
	mac, err := net.ParseMAC(text)
	if err != nil {
		return fmt.Errorf("%q is not a MAC address", text)
	}
	if bytes.Equal(mac, link.Attrs().HardwareAddr) {
		return nil
	}
	if netlink.LinkSetHardwareAddr(link, mac) == nil {
		return nil
	}
	if err := netlink.LinkSetDown(link); err != nil {
		return fmt.Errorf("take %s down for its MAC address: %w", link.Attrs().Name, err)
	}
	if err := netlink.LinkSetHardwareAddr(link, mac); err != nil {
		return fmt.Errorf("the MAC address %s: %w", text, errors.Join(err, netlink.LinkSetUp(link)))
	}
	return nil
}

// flushNeighbours keeps the permanent entries, which a user has added.
func flushNeighbours(link netlink.Link) error {
	neighbours, err := netlink.NeighList(link.Attrs().Index, 0)
	if err != nil {
		return fmt.Errorf("list neighbours: %w", err)
	}
	for _, neighbour := range neighbours {
		if neighbour.State&(netlink.NUD_PERMANENT|netlink.NUD_NOARP) != 0 {
			continue
		}
		if err := netlink.NeighDel(&neighbour); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("forget the neighbour %s: %w", neighbour.IP, err)
		}
	}
	return nil
}

// replaceAddresses removes addresses before it adds others: with the first address of a network the kernel removes
// every other one in it, and a restored guest's new address is in the network of its old one.
func replaceAddresses(link netlink.Link, wanted []string) error {
	keep := map[string]bool{}
	var addresses []*netlink.Addr
	for _, text := range wanted {
		address, err := netlink.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("%q is not an address with a prefix length: %w", text, err)
		}
		keep[address.IPNet.String()] = true
		addresses = append(addresses, address)
	}
	old, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, address := range old {
		if keep[address.IPNet.String()] {
			continue
		}
		err := netlink.AddrDel(link, &address)
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove the address %s: %w", address.IPNet, err)
		}
	}
	for _, address := range addresses {
		if err := netlink.AddrReplace(link, address); err != nil {
			return fmt.Errorf("the address %s: %w", address.IPNet, err)
		}
	}
	return nil
}
