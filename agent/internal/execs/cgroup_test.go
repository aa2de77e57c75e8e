package execs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hearth.dev/agent/internal/accounts"
)

// newCgroup makes a cgroup on this machine for one test.
func newCgroup(t *testing.T) string {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err != nil {
			continue
		}
		if path, err := os.MkdirTemp(root, "hearth-test-"); err == nil {
			t.Cleanup(func() { os.Remove(path) })
			return path
		}
	}
	t.Skip("this user cannot make a cgroup v2")
	return ""
}

func runIn(t *testing.T, cgroup func() *os.File) result {
	t.Helper()
	runner := NewRunner(shared().reaper, accounts.System)
	runner.Cgroup = cgroup
	c, err := runner.Start(sh("cat /proc/self/cgroup"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return finish(t, c)
}

func TestACommandStartsInItsCgroup(t *testing.T) {
	path := newCgroup(t)
	got := runIn(t, func() *os.File {
		dir, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		return dir
	})
	if !strings.Contains(got.stdout, "/"+filepath.Base(path)+"\n") {
		t.Errorf("got %q", got.stdout)
	}
}

func TestACommandRunsEvenIfItsCgroupCannotTakeIt(t *testing.T) {
	path := newCgroup(t)
	dir, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := runIn(t, func() *os.File { return dir }); got.Code != 0 || got.stdout == "" {
		t.Errorf("got %+v", got)
	}
	if got := runIn(t, func() *os.File { return nil }); got.Code != 0 {
		t.Errorf("got %+v", got)
	}
}
