package vmnet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// forwarding is the switch that makes a network namespace a router; see ip-sysctl.rst.
const forwarding = "/proc/sys/net/ipv4/ip_forward"

const lockAgain = 2 * time.Millisecond

// lock waits for the lock of all that change the host. Closing the file releases it, as the end of the process does.
func (h Host) lock(ctx context.Context) (*os.File, error) {
	if err := os.MkdirAll(h.Dir, 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(h.Dir, ".lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", file.Name(), err), file.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), file.Close())
		case <-time.After(lockAgain):
		}
	}
}

// prepare makes the host a router with the host's table. A file beside the namespaces tells whether Hearth made it a
// router: tables of nftables are flushed by others at times.
func (h Host) prepare(ctx context.Context, rules []HostRules, ipv6 bool) error {
	value, err := os.ReadFile(forwarding)
	if err != nil {
		return err
	}
	forwards := strings.TrimSpace(string(value)) != "0"
	files, err := h.routerFiles()
	if err != nil {
		return err
	}
	if !forwards {
		if err := os.WriteFile(files.ipv4, nil, 0o600); err != nil {
			return err
		}
	}
	if ipv6 {
		if err := recordRouter6(files.ipv6, h.LinkPrefix); err != nil {
			return err
		}
	}
	wanted, err := files.choose(rules)
	if err != nil {
		return err
	}
	inForce, err := h.hasRules(wanted.Version)
	if err != nil {
		return err
	}
	if !inForce {
		if err := loadRules(ctx, wanted.Rules); err != nil {
			return err
		}
	}
	if !forwards {
		if err := os.WriteFile(forwarding, []byte("1\n"), 0); err != nil {
			return err
		}
	}
	if !ipv6 {
		return nil
	}
	return startForwarding6(files.ipv6)
}

// restore undoes prepare if no VM has a network any more.
func (h Host) restore() error {
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, link := range links {
		if strings.HasPrefix(link.Name, h.LinkPrefix) {
			return nil
		}
	}
	files, err := h.routerFiles()
	if err != nil {
		return err
	}
	if err := restoreRouter6(files.ipv6); err != nil {
		return err
	}
	if _, err := os.Stat(files.ipv4); err == nil {
		if err := errors.Join(os.WriteFile(forwarding, []byte("0\n"), 0), os.Remove(files.ipv4)); err != nil {
			return err
		}
	}
	return deleteTable(nftables.TableFamilyINet, h.Table)
}

// routerFiles are the files that exist if this host was no router of a family before.
type routerFiles struct{ ipv4, ipv6 string }

func (h Host) routerFiles() (routerFiles, error) {
	namespace, err := hostNamespace()
	if err != nil {
		return routerFiles{}, err
	}
	return routerFiles{
		ipv4: filepath.Join(h.Dir, fmt.Sprintf(".router-%d", namespace)),
		ipv6: filepath.Join(h.Dir, fmt.Sprintf(".router6-%d", namespace)),
	}, nil
}

// choose returns the rules for this host.
func (f routerFiles) choose(rules []HostRules) (HostRules, error) {
	ipv4, err := exists(f.ipv4)
	if err != nil {
		return HostRules{}, err
	}
	ipv6, err := exists(f.ipv6)
	if err != nil {
		return HostRules{}, err
	}
	for _, one := range rules {
		if one.IPv4 == ipv4 && one.IPv6 == ipv6 {
			return one, nil
		}
	}
	return HostRules{}, fmt.Errorf("there are no rules for this host: %t, %t", ipv4, ipv6)
}

func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// hasRules says whether the host's table has the chain of a version.
func (h Host) hasRules(version string) (bool, error) {
	tables, err := nftables.New()
	if err != nil {
		return false, err
	}
	chains, err := tables.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, err
	}
	for _, chain := range chains {
		if chain.Table.Name == h.Table && chain.Name == version {
			return true, nil
		}
	}
	return false, nil
}

// deleteTable deletes a table of this thread's namespace, if it exists.
func deleteTable(family nftables.TableFamily, name string) error {
	tables, err := nftables.New()
	if err != nil {
		return err
	}
	tables.DelTable(&nftables.Table{Family: family, Name: name})
	if err := tables.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete the table %s: %w", name, err)
	}
	return nil
}
