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

// execCgroup is where everything that the host starts runs, and so what is held of it: beside the agent's own
// cgroup, which has to go on. It lies at the top because systemd leaves alone what it did not make there.
const execCgroup = "hearth.exec"

// cgroups is a mounted cgroup v2. Names in it begin with a slash, as in /proc/PID/cgroup.
type cgroups string

// mounted says whether the hierarchy is there: an image's own init may still mount cgroup v1 in its place.
func (c cgroups) mounted() bool {
	_, err := os.Stat(filepath.Join(string(c), "cgroup.controllers"))
	return err == nil
}

// openExecs makes the cgroup of execs again if somebody in the guest removed it while it was empty.
func (c cgroups) openExecs() (*os.File, error) {
	path := filepath.Join(string(c), execCgroup)
	folder, err := os.Open(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return folder, err
	}
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.Open(path)
}

// outside lists the topmost cgroups that hold none of the kept ones.
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

// setFrozen tells the kernel what to do; isFrozen says whether it is done. A cgroup that is gone has nothing in it.
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

// isSet says whether somebody asked for the cgroup to be frozen.
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

// cgroupOf reads which cgroup v2 a process is in: the line `0::/NAME` of /proc/PID/cgroup. It is asked each time,
// for programs in a guest move processes about, the agent's too.
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
