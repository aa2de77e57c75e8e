package boot

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

type mount struct {
	source, target, kind string
	flags                uintptr
	options              string
}

const quietly = unix.MS_NOSUID | unix.MS_NODEV

// What the kernel shows of itself; needed for anything else.
var earlyMounts = []mount{
	{"proc", "/proc", "proc", quietly | unix.MS_NOEXEC, ""},
	{"sysfs", "/sys", "sysfs", quietly | unix.MS_NOEXEC, ""},
	{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=755"},
}

// What programs expect beside it. An image's own init makes these itself, except /run, which holds our part
// of its configuration.
var runMount = mount{"tmpfs", "/run", "tmpfs", quietly, "mode=755"}

var lateMounts = []mount{
	{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"},
	{"tmpfs", "/dev/shm", "tmpfs", quietly, "mode=1777"},
	{"cgroup2", "/sys/fs/cgroup", "cgroup2", quietly | unix.MS_NOEXEC, ""},
}

// devtmpfs has devices only; these are udev's work elsewhere.
var deviceLinks = map[string]string{
	"/dev/fd":     "/proc/self/fd",
	"/dev/stdin":  "/proc/self/fd/0",
	"/dev/stdout": "/proc/self/fd/1",
	"/dev/stderr": "/proc/self/fd/2",
}

func mountAll(mounts []mount) error {
	for _, m := range mounts {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		// A kernel may have mounted devtmpfs by itself.
		err := unix.Mount(m.source, m.target, m.kind, m.flags, m.options)
		if err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.target, err)
		}
	}
	return nil
}

// furnish makes the rest of what programs expect to find.
func furnish() error {
	if err := mountAll(lateMounts); err != nil {
		return err
	}
	for link, target := range deviceLinks {
		if err := os.Symlink(target, link); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if err := os.MkdirAll("/run/lock", 0o755); err != nil {
		return err
	}
	return os.Chmod("/run/lock", 0o1777)
}
