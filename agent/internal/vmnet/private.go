package vmnet

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"hearth.dev/agent/internal/privatenet"
)

const (
	// numberMax is the limit of private networks of a host: each is a /24 of Host.PrivateRange.
	numberMax = 254
	// hostFirst and hostCount are the addresses of VMs in one.
	hostFirst, hostCount = 2, 253
)

// Private says which private networks a VM is on.
type Private struct {
	// Keys are those of the networks; see privatenet.Network.
	Keys []string `json:"keys"`
	// Name is that of the VM.
	Name string `json:"name"`
}

// joined is a private network that a VM is on, and its address there.
type joined struct {
	subnet  netip.Prefix
	address netip.Addr
}

// join puts the VM on its private networks. The caller has the lock.
func (n Network) join(host *netlink.Handle, link netlink.Link) ([]joined, error) {
	var all []joined
	for _, key := range n.Private.Keys {
		number, file, known, err := n.Host.openPrivate(key)
		if err != nil {
			return nil, err
		}
		one, err := n.joinOne(host, link, number, file, known)
		if err := errors.Join(err, file.Close()); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

func (n Network) joinOne(
	host *netlink.Handle, link netlink.Link, number int, file *os.File, known privatenet.Network,
) (joined, error) {
	subnet := n.Host.subnet(number)
	bytes := subnet.Addr().As4()
	first := hash(n.Link)
	for tried := range hostCount {
		bytes[3] = byte(hostFirst + (first+tried)%hostCount)
		address := netip.AddrFrom4(bytes)
		err := addRoute(host, link, address)
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			return joined{}, err
		}
		known.Members = append(known.Members, privatenet.Member{Link: n.Link, Name: n.Private.Name, Address: address})
		return joined{subnet: subnet, address: address}, privatenet.Write(file, known)
	}
	return joined{}, fmt.Errorf("all %d addresses of the private network %s are in use", hostCount, subnet)
}

// openPrivate opens the file of a network, which it makes if there is none. Members that have gone are not in the
// result.
func (h Host) openPrivate(key string) (int, *os.File, privatenet.Network, error) {
	none := privatenet.Network{}
	namespace, err := hostNamespace()
	if err != nil {
		return 0, nil, none, err
	}
	used := map[int]bool{}
	paths, err := filepath.Glob(privatenet.Pattern(h.Dir, &namespace))
	if err != nil {
		return 0, nil, none, err
	}
	for _, path := range paths {
		number, err := numberOf(path)
		if err != nil {
			return 0, nil, none, err
		}
		used[number] = true
		file, err := os.OpenFile(path, os.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, nil, none, err
		}
		network, err := privatenet.Read(file)
		if err == nil && network.Key == key {
			network.Members = slices.DeleteFunc(network.Members, hasGone)
			return number, file, network, nil
		}
		file.Close()
	}
	first := hash(key)
	for tried := range numberMax {
		number := 1 + (first+tried)%numberMax
		if used[number] {
			continue
		}
		path := privatenet.Path(h.Dir, namespace, number)
		file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return 0, nil, none, err
		}
		return number, file, privatenet.Network{Key: key, Members: []privatenet.Member{}}, nil
	}
	return 0, nil, none, fmt.Errorf("this host has %d private networks, and can have no more", numberMax)
}

// leave removes a VM, and all that have gone, from the private networks, and networks without VMs. The caller has the
// lock.
func (h Host) leave(link string) error {
	namespace, err := hostNamespace()
	if err != nil {
		return err
	}
	paths, err := filepath.Glob(privatenet.Pattern(h.Dir, &namespace))
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := h.leaveOne(path, link); err != nil {
			return err
		}
	}
	return nil
}

func (h Host) leaveOne(path, link string) error {
	file, err := os.OpenFile(path, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	network, err := privatenet.Read(file)
	if err != nil {
		// Its writer was killed. Its number is free when no VM has an address of it.
		if isUsed, err := h.hasRoutes(path); isUsed || err != nil {
			return err
		}
		return os.Remove(path)
	}
	left := slices.DeleteFunc(slices.Clone(network.Members), func(member privatenet.Member) bool {
		return member.Link == link || hasGone(member)
	})
	if len(left) == 0 {
		return os.Remove(path)
	}
	if len(left) == len(network.Members) {
		return nil
	}
	return privatenet.Write(file, privatenet.Network{Key: network.Key, Members: left})
}

// hasRoutes says whether the host has routes to VMs on the network with a file.
func (h Host) hasRoutes(path string) (bool, error) {
	number, err := numberOf(path)
	if err != nil {
		return false, err
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return false, err
	}
	for _, route := range routes {
		if route.Dst == nil {
			continue
		}
		if address, isValid := netip.AddrFromSlice(route.Dst.IP); isValid && h.subnet(number).Contains(address.Unmap()) {
			return true, nil
		}
	}
	return false, nil
}

// subnet returns the addresses of a network.
func (h Host) subnet(number int) netip.Prefix {
	bytes := h.PrivateRange.Masked().Addr().As4()
	bytes[2] = byte(number)
	return netip.PrefixFrom(netip.AddrFrom4(bytes), 24)
}

func numberOf(path string) (int, error) {
	number, err := strconv.Atoi(path[strings.LastIndexByte(path, '-')+1:])
	if err != nil || number < 1 || number > numberMax {
		return 0, fmt.Errorf("%s is the file of no network", path)
	}
	return number, nil
}

// hasGone says whether the host's end of a member's network is gone.
func hasGone(member privatenet.Member) bool {
	_, err := net.InterfaceByName(member.Link)
	return err != nil
}

// hash returns a number that is the same for the same text.
func hash(text string) int {
	sum := sha256.Sum256([]byte(text))
	return int(binary.BigEndian.Uint32(sum[:4]))
}

// hostNamespace returns the number of the host's network namespace. Hosts that are containers may share a directory.
func hostNamespace() (uint64, error) {
	var namespace unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &namespace); err != nil {
		return 0, err
	}
	return namespace.Ino, nil
}
