package identity

import (
	"context"
	"errors"
	"net"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestARestoredGuestGetsItsIdentityEntropyFirst(t *testing.T) {
	g, kernel := newGuest(t, nil)
	restored := full
	restored.Restored = true
	if out := g.Configure(context.Background(), restored); len(out.Warnings)+len(out.NotRenewed) != 0 {
		t.Fatal(out)
	}
	want := []string{"entropy", "clock", "boot id", "hostname web-1", "keys of root@web-1", "network eth0"}
	if !slices.Equal(kernel.calls, want) {
		t.Errorf("got %v", kernel.calls)
	}
}

func TestAPartThatARestoredGuestCannotRenewIsNotAWarning(t *testing.T) {
	cause := errors.New("no such luck")
	for _, c := range []struct {
		fails string
		part  Part
	}{
		{"entropy", PartEntropy},
		{"clock", PartClock},
		{"boot id", PartBootID},
		{"keys of root@web-1", PartHostKeys},
	} {
		g, kernel := newGuest(t, nil)
		kernel.failed, kernel.fails = cause, c.fails
		restored := full
		restored.Restored = true
		out := g.Configure(context.Background(), restored)
		if len(out.NotRenewed) != 1 || out.NotRenewed[0].Part != c.part || !errors.Is(out.NotRenewed[0], cause) || len(out.Warnings) != 0 {
			t.Errorf("%s: got %v", c.fails, out)
		}
		if out := g.Configure(context.Background(), full); len(out.NotRenewed) != 0 {
			t.Errorf("%s, booted: got %v", c.fails, out)
		}
	}
}

func TestARestoredGuestWithoutItsMachineIDIsNotRenewed(t *testing.T) {
	g, _ := newGuest(t, nil)
	if err := os.MkdirAll(g.etc("machine-id"), 0o755); err != nil { // A directory cannot be written.
		t.Fatal(err)
	}
	restored := full
	restored.Restored = true
	out := g.Configure(context.Background(), restored)
	if len(out.NotRenewed) != 1 || out.NotRenewed[0].Part != PartMachineID {
		t.Errorf("got %v", out)
	}
}

func TestARestoredGuestNeedsEntropyAndTheTimeFromTheHost(t *testing.T) {
	g, _ := newGuest(t, nil)
	out := g.Configure(context.Background(), Identity{Restored: true, MachineID: full.MachineID})
	if len(out.NotRenewed) != 2 || out.NotRenewed[0].Part != PartEntropy || out.NotRenewed[1].Part != PartClock {
		t.Errorf("got %v", out)
	}
}

func TestEachRestoreShowsAnotherBootIDInTheSameFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may write a file that is read only; CI is root")
	}
	g, kernel := newGuest(t, nil)
	var texts []string
	var files []os.FileInfo
	for range 2 {
		g.Configure(context.Background(), Identity{Restored: true})
		text, err := os.ReadFile(kernel.bootID)
		if err != nil {
			t.Fatal(err)
		}
		file, err := os.Stat(kernel.bootID)
		if err != nil {
			t.Fatal(err)
		}
		texts, files = append(texts, string(text)), append(files, file)
		uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\n$`)
		if !uuid.Match(text) || file.Mode() != 0o444 {
			t.Errorf("got %q, %s", text, file.Mode())
		}
	}
	if texts[0] == texts[1] || !os.SameFile(files[0], files[1]) {
		t.Errorf("got %q, the same file: %t", texts, os.SameFile(files[0], files[1]))
	}
}

// inNewNetwork gives the test a new network namespace with an interface eth0. Its thread ends with the test.
func inNewNetwork(t *testing.T) netlink.Link {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("this user cannot make a network namespace: %v", err)
	}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "peer"}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Skipf("the kernel of this machine has no veth: %v", err)
	}
	return veth
}

func TestARestoredGuestGetsItsOwnAddressesInTheNetworkOfTheOldOnes(t *testing.T) {
	link := inNewNetwork(t)
	ctx := context.Background()
	var kernel Linux
	first := Network{
		Interface: "eth0", MAC: "02:00:00:00:00:01", Addresses: []string{"10.9.0.2/24"}, Gateway: "10.9.0.1",
	}
	other := first
	other.MAC, other.Addresses = "02:00:00:00:00:02", []string{"10.9.0.3/24"}
	copied := other
	copied.MAC = "02:00:00:00:00:03"
	for _, network := range []Network{first, other, copied, other} {
		addNeighbour(t, link, "10.9.0.1", netlink.NUD_STALE)
		if err := kernel.SetUpNetwork(ctx, network); err != nil {
			t.Fatal(err)
		}
		if got := knownNeighbours(t, link); len(got) > 0 {
			t.Errorf("%s: got %v", network.MAC, got)
		}
		now, err := netlink.LinkByName("eth0")
		if err != nil || now.Attrs().HardwareAddr.String() != network.MAC {
			t.Errorf("got %v, %v", now, err)
		}
		addresses, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err != nil || len(addresses) != 1 || addresses[0].IPNet.String() != network.Addresses[0] {
			t.Errorf("got %v, %v", addresses, err)
		}
		routes, err := netlink.RouteGet(net.ParseIP("192.0.2.1"))
		if err != nil || len(routes) != 1 || routes[0].Gw.String() != network.Gateway {
			t.Errorf("got %v, %v", routes, err)
		}
	}
}

func TestAnInterfaceThatAUserHasChangedIsSetUpAgain(t *testing.T) {
	link := inNewNetwork(t)
	ctx := context.Background()
	network := Network{
		Interface: "eth0", MAC: "02:00:00:00:00:01", Addresses: []string{"10.9.0.2/24"}, Gateway: "10.9.0.1",
	}
	for name, change := range map[string]func() error{
		"another address": func() error {
			return replaceAddresses(link, []string{"10.8.0.2/24"})
		},
		"down": func() error { return netlink.LinkSetDown(link) },
	} {
		var kernel Linux
		if err := errors.Join(kernel.SetUpNetwork(ctx, network), change(), kernel.SetUpNetwork(ctx, network)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		routes, err := netlink.RouteGet(net.ParseIP("192.0.2.1"))
		if err != nil || len(routes) != 1 || routes[0].Gw.String() != network.Gateway || routes[0].Src.String() != "10.9.0.2" {
			t.Errorf("%s: got %v, %v", name, routes, err)
		}
	}
}

func TestNeighboursAreRemovedExceptPermanentOnes(t *testing.T) {
	link := inNewNetwork(t)
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	addNeighbour(t, link, "10.9.0.1", netlink.NUD_STALE)
	addNeighbour(t, link, "10.9.0.9", netlink.NUD_PERMANENT)
	if err := flushNeighbours(link); err != nil {
		t.Fatal(err)
	}
	if got := knownNeighbours(t, link); len(got) != 1 || got[0] != "10.9.0.9" {
		t.Errorf("got %v", got)
	}
}

func addNeighbour(t *testing.T, link netlink.Link, ip string, state int) {
	t.Helper()
	err := netlink.NeighSet(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, State: state, IP: net.ParseIP(ip),
		HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func knownNeighbours(t *testing.T, link netlink.Link) []string {
	t.Helper()
	neighbours, err := netlink.NeighList(link.Attrs().Index, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, neighbour := range neighbours {
		if neighbour.State&(netlink.NUD_FAILED|netlink.NUD_NONE) == 0 {
			known = append(known, neighbour.IP.String())
		}
	}
	return known
}

func TestTheKernelShowsTheFileAsItsBootID(t *testing.T) {
	runtime.LockOSThread() // The mounts end with the thread.
	err := unix.Unshare(unix.CLONE_NEWNS)
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	if err != nil {
		t.Skipf("this user cannot make a mount namespace: %v", err)
	}
	g := Guest{Root: t.TempDir(), Kernel: &Linux{}}
	seen := map[string]bool{}
	for range 3 {
		if err := g.renewBootID(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			t.Fatal(err)
		}
		seen[string(text)] = true
	}
	mounts, err := os.ReadFile("/proc/thread-self/mountinfo")
	if count := strings.Count(string(mounts), "/proc/sys/kernel/random/boot_id"); len(seen) != 3 || count != 1 || err != nil {
		t.Errorf("got %v with %d mounts, %v", seen, count, err)
	}
	if err := unix.Unmount("/proc/sys/kernel/random/boot_id", unix.MNT_DETACH); err != nil {
		t.Error(err) // Otherwise the directory could not be removed.
	}
}
