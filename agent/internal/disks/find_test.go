package disks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// machine has disks with these serial numbers. A disk without one has no such file.
func machine(t *testing.T, serials map[string]string) finder {
	t.Helper()
	f := finder{filepath.Join(t.TempDir(), "block"), t.TempDir()}
	for name, serial := range serials {
		dir := filepath.Join(f.sys, name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if serial != "" {
			os.WriteFile(filepath.Join(dir, "serial"), []byte(serial), 0o600)
		}
		os.WriteFile(filepath.Join(f.dev, name), nil, 0o600)
	}
	return f
}

func TestADiskIsFoundByItsSerialWhateverItsPlace(t *testing.T) {
	for _, serials := range []map[string]string{
		{"vda": "base", "vdb": "own", "vdc": ""},
		{"vda": "own\n", "vdb": "base", "loop0": "own"},
	} {
		f := machine(t, serials)
		device, err := f.find("own", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if serial := strings.TrimSpace(serials[filepath.Base(device)]); serial != "own" {
			t.Fatalf("%s has the serial %q", device, serial)
		}
	}
}

func TestAMissingOrDuplicateDiskIsNamedInTheError(t *testing.T) {
	f := machine(t, map[string]string{"vda": "base", "vdb": "own", "vdc": "own"})
	if _, err := f.find("vol-1", 0); err == nil || !strings.Contains(err.Error(), `"vol-1"`) {
		t.Fatal(err)
	}
	_, err := f.find("own", time.Hour)
	if err == nil || !strings.Contains(err.Error(), "vdb and vdc") {
		t.Fatal(err)
	}
}

func TestADiskWhoseDriverComesLateIsWaitedFor(t *testing.T) {
	f := machine(t, map[string]string{"vda": ""})
	appears := time.AfterFunc(5*time.Millisecond, func() {
		os.WriteFile(filepath.Join(f.sys, "vda/serial"), []byte("own"), 0o600)
	})
	defer appears.Stop()
	if _, err := f.find("own", 10*time.Second); err != nil {
		t.Fatal(err)
	}
}

func TestNamesOfDisks(t *testing.T) {
	for name, is := range map[string]bool{
		"/dev/vdb": true, "serial:own": true, "serial:": false, "vdb": false, "": false, "/etc/passwd": false,
	} {
		if IsName(name) != is {
			t.Errorf("IsName(%q) is %v", name, !is)
		}
	}
}
