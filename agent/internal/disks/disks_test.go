package disks

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestADiskThatComesLateIsWaitedFor(t *testing.T) {
	device := filepath.Join(t.TempDir(), "vdz")
	appears := time.AfterFunc(5*time.Millisecond, func() { os.WriteFile(device, nil, 0o600) })
	defer appears.Stop()
	if err := WaitFor(device); err != nil {
		t.Fatal(err)
	}
}

func TestAnOpenDirectoryIsReachableWhenItIsHidden(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "rw")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	opened, err := KeepOpen(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+"-hidden"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(opened, "note"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir + "-hidden/note"); err != nil {
		t.Fatal(err)
	}
	if _, err := KeepOpen(dir); err == nil {
		t.Fatal("a missing directory was opened")
	}
}
