package freezer

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	"hearth.dev/agent/internal/smallfile"
)

// execCgroup has everything that the host starts, so that it can be frozen without the agent, whose cgroup keeps
// running. It is at the top of the hierarchy because systemd leaves alone what it did not make there.
const execCgroup = "hearth.exec"

// cgroups is a mounted cgroup v2. Names in it begin with a slash, as in /proc/PID/cgroup.
type cgroups string

// mounted tells whether the hierarchy exists. An image's own init may mount cgroup v1 in its place.
func (c cgroups) mounted() bool {
	_, err := os.Stat(filepath.Join(string(c), "cgroup.controllers"))
	return err == nil
}

// openExecs opens the cgroup of execs. It makes it again if it was removed in the guest while it was empty.
func (c cgroups) openExecs() (*os.File, error) {
	path := filepath.Join(string(c), execCgroup)
	dir, err := os.Open(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return dir, err
	}
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.Open(path)
}

// outside lists the topmost cgroups that contain none of the kept ones.
func (c cgroups) outside(keep []string) ([]string, error) {
	return c.outsideBelow("", keep)
}

func (c cgroups) outsideBelow(name string, keep []string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(string(c), name))
	if err != nil {
		if name != "" && gone(err) {
			return nil, nil
		}
		return nil, err
	}
	var found []string
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		child := name + "/" + entry.Name()
		if !holdsAny(child, keep) {
			found = append(found, child)
			continue
		}
		below, err := c.outsideBelow(child, keep)
		if err != nil {
			return nil, err
		}
		found = append(found, below...)
	}
	return found, nil
}

func holdsAny(name string, keep []string) bool {
	for _, kept := range keep {
		if kept == name || strings.HasPrefix(kept, name+"/") {
			return true
		}
	}
	return false
}

// setFrozen asks the kernel to freeze or thaw a cgroup; isFrozen tells whether it is frozen. A cgroup that is gone is
// empty.
func (c cgroups) setFrozen(name string, frozen bool) error {
	text := "0"
	if frozen {
		text = "1"
	}
	err := smallfile.Set(string(c)+name+"/cgroup.freeze", text)
	if gone(err) {
		return nil
	}
	return err
}

// isSet tells whether the cgroup was asked to freeze.
func (c cgroups) isSet(name string) (bool, error) {
	text, err := os.ReadFile(filepath.Join(string(c), name, "cgroup.freeze"))
	if gone(err) {
		return false, nil
	}
	return bytes.HasPrefix(text, []byte("1")), err
}

func (c cgroups) isFrozen(name string) (bool, error) {
	text, err := os.ReadFile(filepath.Join(string(c), name, "cgroup.events"))
	if gone(err) {
		return true, nil
	}
	return bytes.Contains(text, []byte("frozen 1")), err
}

func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) }

// cgroupOf reads the cgroup v2 of a process: the line `0::/NAME` of /proc/PID/cgroup. It is read each time, because
// programs in the guest move processes, including the agent.
func cgroupOf(pid string) (string, error) {
	text, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "0::"); ok {
			return name, nil
		}
	}
	return "", fmt.Errorf("the process %s is in no cgroup v2", pid)
}
