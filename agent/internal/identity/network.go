package identity

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/vishvananda/netlink"
)

// The device may be found a moment after the agent is up.
const linkTimeout = 3 * time.Second

// SetUpNetwork brings lo up, and the interface with exactly the given addresses and gateway.
func (Linux) SetUpNetwork(ctx context.Context, network Network) error {
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
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("%s: %w", network.Interface, err)
	}
	if err := replaceAddresses(link, network.Addresses); err != nil {
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

// waitForLink finds the interface by its name. A guest's own rules may have renamed it; so where there is only
// one beside lo, it is that one.
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

func replaceAddresses(link netlink.Link, wanted []string) error {
	keep := map[string]bool{}
	for _, text := range wanted {
		address, err := netlink.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("%q is not an address with a prefix length: %w", text, err)
		}
		keep[address.IPNet.String()] = true
		if err := netlink.AddrReplace(link, address); err != nil {
			return fmt.Errorf("the address %s: %w", text, err)
		}
	}
	old, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, address := range old {
		if keep[address.IPNet.String()] {
			continue
		}
		if err := netlink.AddrDel(link, &address); err != nil {
			return fmt.Errorf("remove the address %s: %w", address.IPNet, err)
		}
	}
	return nil
}
