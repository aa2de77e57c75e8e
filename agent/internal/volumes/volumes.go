// Package volumes mounts the disks that the host gave the guest beside its own.
package volumes

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
	"hearth.dev/agent/internal/disks"
	"hearth.dev/agent/internal/fault"
)

// Mount is one volume: a device with an ext4 and the folder where it is to be seen.
type Mount struct {
	Device   string // Such as /dev/vdc or serial:data, as disks.Find knows them.
	Path     string // Absolute; made when it is missing.
	ReadOnly bool
}

// System is the part of the kernel that mounts. Tests give another one.
type System interface {
	// Find waits for the disk and returns its device.
	Find(disk string) (string, error)
	// IsMounted says whether the device is what is seen at the path.
	IsMounted(mount Mount) (bool, error)
	Mount(mount Mount) error
	// Hold opens the mount point and gives a path to it that stays valid when something hides it.
	Hold(path string) (string, error)
}

// Set is the volumes of a guest.
type Set struct {
	System System

	mutex sync.Mutex
	held  []string
}

// Mount makes every volume appear at its path, in order. One that is there already stays as it is. It stops at the
// first that fails: a program must not write beside a volume what was meant for it.
func (s *Set) Mount(mounts []Mount) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, mount := range mounts {
		if err := s.mountOne(mount); err != nil {
			return fault.Because(err, fault.AgentFailed, "the volume for %s cannot be mounted", mount.Path)
		}
	}
	return nil
}

func (s *Set) mountOne(mount Mount) error {
	device, err := s.System.Find(mount.Device)
	if err != nil {
		return err
	}
	mount.Device = device
	mounted, err := s.System.IsMounted(mount)
	if err != nil || mounted {
		return err
	}
	if err := s.System.Mount(mount); err != nil {
		return err
	}
	if mount.ReadOnly {
		return nil // Nothing to write out at the end.
	}
	held, err := s.System.Hold(mount.Path)
	if err != nil {
		return err
	}
	s.held = append(s.held, held)
	return nil
}

// Writable are the volumes to make read only before the power goes, by paths that stay valid; the last mounted first.
func (s *Set) Writable() []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var paths []string
	for i := len(s.held) - 1; i >= 0; i-- {
		paths = append(paths, s.held[i])
	}
	return paths
}

// Linux is the running kernel.
type Linux struct{}

// Find looks for it among the VM's disks.
func (Linux) Find(disk string) (string, error) {
	return disks.Find(disk)
}

// IsMounted compares the device's number with that of the file system at the path.
func (Linux) IsMounted(mount Mount) (bool, error) {
	var device, folder unix.Stat_t
	if err := unix.Stat(mount.Device, &device); err != nil {
		return false, fmt.Errorf("stat %s: %w", mount.Device, err)
	}
	if err := unix.Stat(mount.Path, &folder); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return false, nil
		}
		return false, fmt.Errorf("stat %s: %w", mount.Path, err)
	}
	return folder.Dev == device.Rdev, nil
}

// Mount makes the folder and mounts the device on it.
func (Linux) Mount(mount Mount) error {
	if err := os.MkdirAll(mount.Path, 0o755); err != nil {
		return err
	}
	flags := uintptr(0)
	if mount.ReadOnly {
		flags = unix.MS_RDONLY
	}
	err := unix.Mount(mount.Device, mount.Path, "ext4", flags, "")
	if err == nil {
		return nil
	}
	if mount.ReadOnly && errors.Is(err, unix.EROFS) {
		// ext4's answer to a journal that nobody could play back, because the device is read only, too.
		return errors.New("its last VM did not close it, and its journal can only be played back where it may be " +
			"written: start a VM with it without :ro once")
	}
	return fmt.Errorf("mount %s: %w", mount.Device, err)
}

// Hold keeps the folder open for the life of the agent, which is that of the guest.
func (Linux) Hold(path string) (string, error) {
	return disks.Hold(path)
}
