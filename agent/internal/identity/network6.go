package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// conf6 has the settings of each interface for IPv6: see ip-sysctl.rst of the kernel.
const conf6 = "/proc/sys/net/ipv6/conf"

// ignoreAdvertisements says that addresses and routes of an interface come from the host alone.
func ignoreAdvertisements(link netlink.Link) error {
	for _, setting := range []string{"accept_ra", "autoconf"} {
		err := os.WriteFile(filepath.Join(conf6, link.Attrs().Name, setting), []byte("0"), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// hasIPv6 tells whether an interface can have IPv6 addresses: the user may have disabled it.
func hasIPv6(link netlink.Link) bool {
	text, err := os.ReadFile(filepath.Join(conf6, link.Attrs().Name, "disable_ipv6"))
	return err == nil && strings.TrimSpace(string(text)) == "0"
}

// setUpIPv6 gives an interface that is up exactly the given address and gateway. Both are usable at once: nobody else
// is on the link, so the address is not looked for there first.
func setUpIPv6(link netlink.Link, address, gateway string) error {
	if !hasIPv6(link) {
		return nil
	}
	var wanted *netlink.Addr
	if address != "" {
		var err error
		if wanted, err = netlink.ParseAddr(address); err != nil {
			return fmt.Errorf("%q is not an address with a prefix length: %w", address, err)
		}
		wanted.Flags = unix.IFA_F_NODAD
	}
	old, err := netlink.AddrList(link, netlink.FAMILY_V6)
	if err != nil {
		return fmt.Errorf("list IPv6 addresses: %w", err)
	}
	for _, one := range old {
		if one.IP.IsLinkLocalUnicast() || wanted != nil && one.IPNet.String() == wanted.IPNet.String() {
			continue
		}
		if err := netlink.AddrDel(link, &one); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove the address %s: %w", one.IPNet, err)
		}
	}
	if wanted == nil {
		return removeGateways6(link)
	}
	if err := netlink.AddrReplace(link, wanted); err != nil {
		return fmt.Errorf("the address %s: %w", wanted.IPNet, err)
	}
	if gateway == "" {
		return nil
	}
	by := net.ParseIP(gateway)
	if by == nil {
		return fmt.Errorf("%q is not an address", gateway)
	}
	if err := netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: by}); err != nil {
		return fmt.Errorf("the route by %s: %w", gateway, err)
	}
	return nil
}

// removeGateways6 removes the routes by gateways of an interface without an address: the kernel would send from its own
// address, which nobody answers.
func removeGateways6(link netlink.Link) error {
	routes, err := netlink.RouteList(link, netlink.FAMILY_V6)
	if err != nil {
		return fmt.Errorf("list IPv6 routes: %w", err)
	}
	for _, route := range routes {
		if route.Gw == nil {
			continue
		}
		if err := netlink.RouteDel(&route); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove the route by %s: %w", route.Gw, err)
		}
	}
	return nil
}
