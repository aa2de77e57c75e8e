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
func (h Host) prepare(ctx context.Context, rules HostRules) error {
	value, err := os.ReadFile(forwarding)
	if err != nil {
		return err
	}
	forwards := strings.TrimSpace(string(value)) != "0"
	file, err := h.routerFile()
	if err != nil {
		return err
	}
	if !forwards {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			return err
		}
	}
	wanted := rules.Forwarder
	if _, err := os.Stat(file); err == nil {
		wanted = rules.Router
	} else if !errors.Is(err, fs.ErrNotExist) {
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
	if forwards {
		return nil
	}
	return os.WriteFile(forwarding, []byte("1\n"), 0)
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
	file, err := h.routerFile()
	if err != nil {
		return err
	}
	if _, err := os.Stat(file); err == nil {
		if err := errors.Join(os.WriteFile(forwarding, []byte("0\n"), 0), os.Remove(file)); err != nil {
			return err
		}
	}
	return deleteTable(nftables.TableFamilyINet, h.Table)
}

// routerFile returns the file that exists if this host was no router before.
func (h Host) routerFile() (string, error) {
	namespace, err := hostNamespace()
	if err != nil {
		return "", err
	}
	return filepath.Join(h.Dir, fmt.Sprintf(".router-%d", namespace)), nil
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
