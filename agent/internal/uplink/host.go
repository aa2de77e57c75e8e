package uplink

import (
	"errors"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hostAddresses reads the addresses of the host, in whose network namespace it was made.
type hostAddresses struct {
	handle *netlink.Handle
	// changes has a value after each change, and is closed when no more can be told.
	changes <-chan struct{}
}

// watchHost begins to watch the routing table of this thread's network namespace, which its later threads share.
func watchHost() (*hostAddresses, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	updates, err := subscribe()
	if err != nil {
		return nil, err
	}
	changes := make(chan struct{}, 1)
	go func() {
		defer close(changes)
		for {
			update, told := <-updates
			if !told {
				// The kernel had more to tell than the socket could hold: anything may have changed meanwhile.
				if updates, err = subscribe(); err != nil {
					return
				}
			} else if update.Table != unix.RT_TABLE_LOCAL {
				continue
			}
			select {
			case changes <- struct{}{}:
			default: // The reader has not seen the last one yet.
			}
		}
	}()
	return &hostAddresses{handle, changes}, nil
}

// subscribe returns a channel that is closed when updates were lost.
func subscribe() (<-chan netlink.RouteUpdate, error) {
	updates := make(chan netlink.RouteUpdate)
	return updates, netlink.RouteSubscribe(updates, nil)
}

// networks returns the networks whose packets the host takes itself, in CIDR notation.
func (host *hostAddresses) networks() ([]string, error) {
	filter := &netlink.Route{Table: unix.RT_TABLE_LOCAL}
	for {
		routes, err := host.handle.RouteListFiltered(unix.AF_INET, filter, netlink.RT_FILTER_TABLE)
		// The table has changed meanwhile.
		if errors.Is(err, netlink.ErrDumpInterrupted) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return ownNetworks(routes), nil
	}
}

// ownNetworks returns the destinations of routes that lead to the host itself, sorted.
func ownNetworks(routes []netlink.Route) []string {
	networks := []string{}
	for _, route := range routes {
		if route.Type != unix.RTN_LOCAL && route.Type != unix.RTN_BROADCAST || route.Dst == nil {
			continue
		}
		networks = append(networks, (&net.IPNet{IP: route.Dst.IP.Mask(route.Dst.Mask), Mask: route.Dst.Mask}).String())
	}
	slices.Sort(networks)
	return slices.Compact(networks)
}
