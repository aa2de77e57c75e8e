package hostkeys

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// reloadListeners makes every listening sshd read its keys again. A frozen one does so when it is thawed.
func reloadListeners(proc string) {
	for _, pid := range findListeners(proc) {
		_ = unix.Kill(pid, unix.SIGHUP) // It may end at this moment.
	}
}

// findListeners recognizes sshd's listeners by their parent, PID 1: the parent of a session is its listener.
func findListeners(proc string) []int {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil
	}
	var found []int
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil && isListener(filepath.Join(proc, entry.Name())) {
			found = append(found, pid)
		}
	}
	return found
}

func isListener(process string) bool {
	stat, err := os.ReadFile(filepath.Join(process, "stat"))
	if err != nil {
		return false
	}
	rest, ok := bytes.CutPrefix(stat, []byte(filepath.Base(process)+" (sshd) "))
	if fields := bytes.Fields(rest); !ok || len(fields) < 2 || string(fields[1]) != "1" {
		return false
	}
	// A session outlives a listener that ended, and then has PID 1 as its parent. SIGHUP would end it.
	title, err := os.ReadFile(filepath.Join(process, "cmdline"))
	return err == nil && (!bytes.HasPrefix(title, []byte("sshd: ")) || bytes.Contains(title, []byte("[listener]")))
}
