package volumes

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// fakeSystem records its calls and mounts nothing.
type fakeSystem struct {
	mounted []string
	broken  string // The device that cannot be mounted.
}

func (f *fakeSystem) Find(disk string) (string, error) { return disk, nil }

func (f *fakeSystem) IsMounted(m Mount) (bool, error) {
	return slices.Contains(f.mounted, m.Device+" "+m.Path), nil
}

func (f *fakeSystem) Mount(m Mount) error {
	if m.Device == f.broken {
		return errors.New("no ext4 in there")
	}
	f.mounted = append(f.mounted, m.Device+" "+m.Path)
	return nil
}

func (f *fakeSystem) KeepOpen(path string) (string, error) { return "open " + path, nil }

var three = []Mount{
	{Device: "/dev/vdc", Path: "/data"},
	{Device: "/dev/vdd", Path: "/data/sub", ReadOnly: true},
	{Device: "/dev/vde", Path: "/logs"},
}

func TestVolumesAreMountedInOrderAndOnce(t *testing.T) {
	system := &fakeSystem{}
	set := &Set{System: system}
	for range 2 {
		if err := set.Mount(three); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"/dev/vdc /data", "/dev/vdd /data/sub", "/dev/vde /logs"}; !slices.Equal(system.mounted, want) {
		t.Errorf("got %v", system.mounted)
	}
	if want := []string{"open /logs", "open /data"}; !slices.Equal(set.Writable(), want) {
		t.Errorf("to close: %v", set.Writable())
	}
}

func TestAVolumeThatCannotBeMountedIsAnErrorThatNamesItsPath(t *testing.T) {
	system := &fakeSystem{broken: "/dev/vdd"}
	set := &Set{System: system}
	err := set.Mount(three)
	if err == nil || !strings.Contains(err.Error(), "/data/sub") || !strings.Contains(err.Error(), "no ext4") {
		t.Errorf("got %v", err)
	}
	if want := []string{"open /data"}; !slices.Equal(set.Writable(), want) {
		t.Errorf("what was mounted before is closed all the same: %v", set.Writable())
	}
}
