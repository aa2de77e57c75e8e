package vmnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Make makes the network, and returns the VM's address on the host. After an error, parts of it are there: Remove
// removes them.
func Make(ctx context.Context, network Network) (netip.Addr, error) {
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return netip.Addr{}, err
	}
	defer host.Close()
	locked, err := network.Host.lock(ctx)
	if err != nil {
		return netip.Addr{}, err
	}
	// The host is prepared while the namespace is made. Whoever removes another network sees the link before it gets the
	// lock, and leaves the host prepared.
	prepared := make(chan error, 1)
	go func() { prepared <- network.Host.prepare(ctx, network.HostRules, network.IPv6) }()
	inside, err := makeNamespace(network)
	if err == nil {
		defer close(inside)
	}
	var address netip.Addr
	var private []joined
	if err = errors.Join(err, <-prepared); err == nil {
		address, private, err = network.connect(host)
	}
	if err = errors.Join(err, locked.Close()); err != nil {
		return netip.Addr{}, err
	}
	defined := fmt.Sprintf("define address = %s\ndefine address6 = %s\n", address, network.address6(address))
	err = do(inside, func() error {
		if err := setUplink(network, address, private); err != nil {
			return err
		}
		rules := defined
		for at, one := range private {
			rules += fmt.Sprintf("define network%d = %s\ndefine address%d = %s\n", at, one.subnet, at, one.address)
		}
		return loadRules(ctx, rules+network.Rules)
	})
	if err == nil && network.PublishRules != "" {
		err = publish(ctx, network, defined)
	}
	return address, err
}

// job is a function for the thread in the namespace.
type job struct {
	do   func() error
	done chan error
}

func do(thread chan<- job, what func() error) error {
	done := make(chan error)
	thread <- job{what, done}
	return <-done
}

// makeNamespace makes the namespace and both ends of its link to the host. It returns a thread in it, which ends with
// the channel.
func makeNamespace(network Network) (chan<- job, error) {
	if err := os.MkdirAll(network.Host.Dir, 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(network.Path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	file.Close()
	jobs := make(chan job)
	go func() {
		// The thread is not unlocked, so it ends with the goroutine, and is never one of another namespace again.
		runtime.LockOSThread()
		for next := range jobs {
			next.done <- next.do()
		}
	}()
	err = do(jobs, func() error {
		ofHost, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		defer ofHost.Close()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		if err := unix.Mount("/proc/thread-self/ns/net", network.Path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount on %s: %w", network.Path, err)
		}
		return makeLinks(network, int(ofHost.Fd()))
	})
	if err != nil {
		close(jobs)
		return nil, err
	}
	return jobs, nil
}

// makeLinks makes the links of the namespace of this thread.
func makeLinks(network Network, hostFD int) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	attributes := netlink.NewLinkAttrs()
	attributes.Name, attributes.HardwareAddr = network.Uplink, uplinkMAC
	uplink := &netlink.Veth{
		LinkAttrs:        attributes,
		PeerName:         network.Link,
		PeerHardwareAddr: hostLinkMAC,
		PeerNamespace:    netlink.NsFd(hostFD),
	}
	if err := netlink.LinkAdd(uplink); err != nil {
		return fmt.Errorf("make the link %s: %w", network.Link, err)
	}
	ipv6, err := links6Here()
	if err != nil {
		return err
	}
	defer ipv6.handle.Close()
	if err := ipv6.noOwnAddress(uplink); err != nil {
		return err
	}
	mac, err := net.ParseMAC(network.Inside.MAC)
	if err != nil {
		return err
	}
	if err := makeTap(network.Inside.Tap, network.UID); err != nil {
		return fmt.Errorf("make the TAP device: %w", err)
	}
	tap, err := netlink.LinkByName(network.Inside.Tap)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetHardwareAddr(tap, mac); err != nil {
		return err
	}
	if err := netlink.AddrAdd(tap, addressOf(network.Inside.Address)); err != nil {
		return err
	}
	if err := ipv6.noOwnAddress(tap); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(tap); err != nil {
		return err
	}
	if err := ipv6.setCard(tap, network.Inside); err != nil {
		return err
	}
	return setRouter(ipv6.hasIPv6)
}

// setRouter makes the namespace of this thread a router, which answers each denied packet with an error: the kernel sends
// one a second unless told.
func setRouter(hasIPv6 bool) error {
	settings := []string{forwarding, "/proc/sys/net/ipv4/icmp_ratelimit"}
	if hasIPv6 {
		settings = append(settings, filepath.Join(conf6, forwarding6), "/proc/sys/net/ipv6/icmp/ratelimit")
	}
	for _, setting := range settings {
		if err := os.WriteFile(setting, []byte("1\n"), 0); err != nil {
			return err
		}
	}
	return nil
}

// setUplink connects the namespace of this thread with the host, whose end has an address and routes already.
func setUplink(network Network, address netip.Addr, private []joined) error {
	uplink, err := netlink.LinkByName(network.Uplink)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(uplink, addressOf(single(address))); err != nil {
		return err
	}
	for _, one := range private {
		if err := netlink.AddrAdd(uplink, addressOf(single(one.address))); err != nil {
			return err
		}
	}
	if err := netlink.LinkSetUp(uplink); err != nil {
		return err
	}
	err = netlink.RouteAdd(&netlink.Route{
		LinkIndex: uplink.Attrs().Index, Gw: network.Gateway.AsSlice(), Flags: int(netlink.FLAG_ONLINK),
	})
	if err != nil || !network.IPv6 {
		return err
	}
	ipv6, err := links6Here()
	if err != nil {
		return err
	}
	defer ipv6.handle.Close()
	return ipv6.setUplink(uplink, network.address6(address))
}

// connect sets up the host's end, and returns the VM's addresses. The kernel gives an address to one link only: it
// refuses a second route.
func (n Network) connect(host *netlink.Handle) (netip.Addr, []joined, error) {
	link, err := host.LinkByName(n.Link)
	if err != nil {
		return netip.Addr{}, nil, err
	}
	if err := host.AddrAdd(link, addressOf(single(n.Gateway))); err != nil {
		return netip.Addr{}, nil, err
	}
	hasIPv6, err := newLinksHave6()
	if err != nil {
		return netip.Addr{}, nil, err
	}
	ipv6 := links6{handle: host, hasIPv6: hasIPv6}
	if err := ipv6.noOwnAddress(link); err != nil {
		return netip.Addr{}, nil, err
	}
	if err := host.LinkSetUp(link); err != nil {
		return netip.Addr{}, nil, err
	}
	for _, address := range n.Addresses {
		err := addRoute(host, link, address)
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			return netip.Addr{}, nil, err
		}
		if n.IPv6 {
			if err := ipv6.setHost(link, n.address6(address)); err != nil {
				return netip.Addr{}, nil, err
			}
		}
		private, err := n.join(host, link)
		return address, private, err
	}
	return netip.Addr{}, nil, ErrNoAddress
}

// addRoute leads an address to a link. unix.EEXIST says that it is led to another.
func addRoute(host *netlink.Handle, link netlink.Link, address netip.Addr) error {
	return host.RouteAdd(&netlink.Route{
		LinkIndex: link.Attrs().Index, Dst: addressOf(single(address)).IPNet, Scope: netlink.SCOPE_LINK,
	})
}

func single(address netip.Addr) netip.Prefix {
	return netip.PrefixFrom(address, address.BitLen())
}

func addressOf(prefix netip.Prefix) *netlink.Addr {
	ip := prefix.Addr()
	return &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(prefix.Bits(), ip.BitLen())}}
}

// publish loads the rules that publish ports. The switch also tells Remove that there may be a table.
func publish(ctx context.Context, network Network, defined string) error {
	if err := os.WriteFile(loopbackSwitch(network.Link), []byte("1\n"), 0); err != nil {
		return err
	}
	return loadRules(ctx, defined+network.PublishRules)
}

// loopbackSwitch returns the file that lets packets from 127.0.0.1 through a link: route_localnet of ip-sysctl.rst.
func loopbackSwitch(link string) string {
	return fmt.Sprintf("/proc/sys/net/ipv4/conf/%s/route_localnet", link)
}

// loadRules has nft(8) load a program into the namespace of this thread, which the kernel does as a whole.
func loadRules(ctx context.Context, rules string) error {
	nft := exec.CommandContext(ctx, "nft", "-f", "-")
	nft.Stdin = strings.NewReader(rules)
	nft.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if output, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, output)
	}
	return nil
}
