// Package volumes mounts the guest's volumes: the disks that it has beside its own.
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

// Mount is one volume: a device with an ext4, and the directory to mount it on.
type Mount struct {
	Device   string // Such as /dev/vdc or serial:data, as disks.Find understands it.
	Path     string // Absolute. The directory is made if it is missing.
	ReadOnly bool
}

// System is the part of the kernel that mounts. Tests have a fake.
type System interface {
	// Find waits for the disk and returns its device.
	Find(disk string) (string, error)
	// IsMounted tells whether the device is mounted at the path, on top.
	IsMounted(mount Mount) (bool, error)
	Mount(mount Mount) error
	// KeepOpen opens the mount point and returns a path that stays valid when another mount hides it.
	KeepOpen(path string) (string, error)
}

// Set is the set of a guest's volumes.
type Set struct {
	System System

	mutex  sync.Mutex
	opened []string
}

// Mount mounts the volumes in order. One that is mounted already stays as it is. It stops at the first failure, so that
// no program writes to the directory what was meant for the volume.
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
	opened, err := s.System.KeepOpen(mount.Path)
	if err != nil {
		return err
	}
	s.opened = append(s.opened, opened)
	return nil
}

// Writable lists the volumes to make read only before the power is turned off, by paths that stay valid, in the reverse
// order of mounting.
func (s *Set) Writable() []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var paths []string
	for i := len(s.opened) - 1; i >= 0; i-- {
		paths = append(paths, s.opened[i])
	}
	return paths
}

// Linux is the running kernel.
type Linux struct{}

// Find finds the disk among those of the VM.
func (Linux) Find(disk string) (string, error) {
	return disks.Find(disk)
}

// IsMounted compares the device's number with that of the file system at the path.
func (Linux) IsMounted(mount Mount) (bool, error) {
	var device, dir unix.Stat_t
	if err := unix.Stat(mount.Device, &device); err != nil {
		return false, fmt.Errorf("stat %s: %w", mount.Device, err)
	}
	if err := unix.Stat(mount.Path, &dir); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return false, nil
		}
		return false, fmt.Errorf("stat %s: %w", mount.Path, err)
	}
	return dir.Dev == device.Rdev, nil
}

// Mount makes the directory and mounts the device on it.
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
		// ext4's error for a journal that cannot be replayed, because the device is read only.
		return errors.New("its last VM did not close it, and its journal can only be played back where it may be " +
			"written: start a VM with it without :ro once")
	}
	return fmt.Errorf("mount %s: %w", mount.Device, err)
}

// KeepOpen keeps the directory open for the life of the agent, which is that of the guest.
func (Linux) KeepOpen(path string) (string, error) {
	return disks.KeepOpen(path)
}
