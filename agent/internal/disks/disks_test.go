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

func TestAHeldFolderIsReachedWhenSomethingHidesIt(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "rw")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	held, err := Hold(folder)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(folder, folder+"-hidden"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(held, "note"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(folder + "-hidden/note"); err != nil {
		t.Fatal(err)
	}
	if _, err := Hold(folder); err == nil {
		t.Fatal("a folder that is not there was held")
	}
}
