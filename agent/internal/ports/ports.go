// Package ports lists the ports of the guest that wait for peers, with the programs that have them.
//
//  1. The tables of /proc/net have the sockets of the agent's network namespace: address, state and inode.
//  2. /proc/PID/fd has the inodes of each process's sockets.
//
// A guest may have any number of sockets and open files, so both steps are bounded.
package ports

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"hearth.dev/agent/internal/accounts"
	"hearth.dev/agent/internal/smallfile"
)

// Port is one socket that waits for peers.
type Port struct {
	Protocol string // "tcp" or "udp".
	Address  netip.AddrPort
	PID      uint32 // Of one process that has the socket; 0 if none is known.
	Program  string // The name of that process.
	User     string // Its effective user: a name, or a uid without a name.
}

// Lister lists the ports of the guest whose files these are.
type Lister struct {
	Proc  string // Where procfs is mounted.
	Users accounts.Files

	portsMax, rowsMax, filesMax int // 0: the defaults below.
}

// The defaults keep an answer below 200 KiB, and the time for it below a second on a CPU that is not emulated.
const (
	defaultPortsMax = 1_000
	defaultRowsMax  = 200_000 // Of each table.
	defaultFilesMax = 200_000 // Open files of all processes.
)

// List returns the ports. `truncated` says that the guest has more sockets or open files than were looked at.
func (l Lister) List(ctx context.Context) (found []Port, truncated bool, err error) {
	sockets, truncated, err := l.sockets(ctx, orDefault(l.portsMax, defaultPortsMax))
	if err != nil {
		return nil, false, err
	}
	owners, all, err := l.owners(ctx, sockets)
	if err != nil {
		return nil, false, err
	}
	processes := map[uint32]Port{}
	for _, one := range sockets {
		port := Port{Protocol: one.protocol, Address: one.address}
		if pid, ok := owners[one.inode]; ok {
			if _, known := processes[pid]; !known {
				processes[pid] = l.process(pid)
			}
			port.PID, port.Program, port.User = pid, processes[pid].Program, processes[pid].User
		}
		found = append(found, port)
	}
	return found, truncated || !all, nil
}

// process returns the name and the user of a process. Both are empty if it has ended meanwhile.
func (l Lister) process(pid uint32) (found Port) {
	dir := filepath.Join(l.Proc, strconv.FormatUint(uint64(pid), 10))
	comm, err := smallfile.Read(filepath.Join(dir, "comm"))
	if err != nil {
		return found
	}
	// A program chooses its name, which may be any bytes.
	found.Program = strings.ToValidUTF8(strings.TrimSuffix(string(comm), "\n"), "\uFFFD")
	status, err := smallfile.Read(filepath.Join(dir, "status"))
	if err != nil {
		return found
	}
	uid := effectiveUID(string(status))
	found.User = uid
	if account, err := l.Users.Find(uid); uid != "" && err == nil && account.Name != "" {
		found.User = strings.ToValidUTF8(account.Name, "\uFFFD")
	}
	return found
}

// effectiveUID returns the second number of the line `Uid:` in /proc/PID/status.
func effectiveUID(status string) string {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, "Uid:"); ok {
			if uids := strings.Fields(rest); len(uids) > 1 {
				return uids[1]
			}
		}
	}
	return ""
}

func orDefault(value, fallback int) int {
	if value == 0 {
		return fallback
	}
	return value
}

// names calls visit for each name in a directory, in the order that the kernel has, until visit returns false. The
// directory may have millions of names. A process that has ended, or that may not be read, has none.
func names(dir string, visit func(name string) bool) {
	file, err := os.Open(dir)
	if err != nil {
		return
	}
	defer file.Close()
	for {
		batch, err := file.Readdirnames(512)
		for _, name := range batch {
			if !visit(name) {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
