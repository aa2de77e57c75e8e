package ports

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// owners finds one process for each socket, by inode: the one with the lowest pid, which is the parent of those that
// it has given the socket to. PID 1 comes last: it may keep the sockets of the services that it starts. `all` is false
// if there were too many open files to look at.
func (l Lister) owners(ctx context.Context, sockets []socket) (pids map[uint64]uint32, all bool, err error) {
	missing := map[string]uint64{} // By the link of an open file.
	for _, one := range sockets {
		missing["socket:["+strconv.FormatUint(one.inode, 10)+"]"] = one.inode
	}
	pids = map[uint64]uint32{}
	files := 0
	for _, pid := range l.processes() {
		dir := filepath.Join(l.Proc, strconv.FormatUint(uint64(pid), 10), "fd")
		names(dir, func(name string) bool {
			files++
			link, _ := os.Readlink(filepath.Join(dir, name)) // The file may be closed meanwhile.
			if inode, ok := missing[link]; ok {
				pids[inode] = pid
				delete(missing, link)
			}
			return len(missing) > 0 && files < orDefault(l.filesMax, defaultFilesMax) && ctx.Err() == nil
		})
		if ctx.Err() != nil {
			return nil, false, ctx.Err()
		}
		if len(missing) == 0 {
			return pids, true, nil
		}
		if files >= orDefault(l.filesMax, defaultFilesMax) {
			return pids, false, nil
		}
	}
	// Sockets of the kernel and of other PID namespaces have no process here.
	return pids, true, nil
}

// processes returns the pids in the order in which they are asked.
func (l Lister) processes() (pids []uint32) {
	names(l.Proc, func(name string) bool {
		pid, err := strconv.ParseUint(name, 10, 32)
		if err == nil && !strings.HasPrefix(name, "0") {
			pids = append(pids, uint32(pid))
		}
		return true
	})
	slices.Sort(pids)
	if len(pids) > 0 && pids[0] == 1 {
		pids = append(pids[1:], 1)
	}
	return pids
}
