package freezer

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// realCgroup makes a cgroup on this machine for one test.
func realCgroup(t *testing.T) string {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if !cgroups(root).mounted() {
			continue
		}
		path, err := os.MkdirTemp(root, "hearth-test-")
		if err != nil {
			continue
		}
		t.Cleanup(func() { os.Remove(path) })
		if _, err := os.Stat(filepath.Join(path, "cgroup.freeze")); err == nil {
			return path
		}
	}
	t.Skip("this user cannot make a cgroup v2")
	return ""
}

func TestTheKernelFreezesAndThawsACommandInItsCgroup(t *testing.T) {
	root := realCgroup(t)
	f, _ := newFreezer(t)
	f.tree, f.clock = cgroups(root), linuxClock{}
	dir := f.ExecCgroup()
	if dir == nil {
		t.Fatal("there is no cgroup for commands")
	}
	t.Cleanup(func() { os.Remove(dir.Name()) })
	defer dir.Close()
	command := exec.Command("cat")
	command.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	input, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var output bytes.Buffer
	command.Stdout = &output
	if err := command.Start(); err != nil {
		t.Skipf("the kernel of this machine starts nothing in a cgroup: %v", err)
	}
	f.mustFreeze(t)
	if frozen, err := f.tree.isFrozen("/" + execCgroup); !frozen || err != nil {
		t.Errorf("it is not frozen: %v", err)
	}
	if err := f.Thaw(); err != nil {
		t.Fatal(err)
	}
	if _, err := input.Write([]byte("on")); err != nil {
		t.Fatal(err)
	}
	input.Close()
	if err := command.Wait(); err != nil || output.String() != "on" {
		t.Errorf("got %q, %v", output.String(), err)
	}
}
