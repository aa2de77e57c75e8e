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

// The file systems of the kernel that every later step needs.
var earlyMounts = []mount{
	{"proc", "/proc", "proc", quietly | unix.MS_NOEXEC, ""},
	{"sysfs", "/sys", "sysfs", quietly | unix.MS_NOEXEC, ""},
	{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=755"},
}

// The mount that programs expect beside these. An image's own init makes the others itself, but not /run, in which the
// agent leaves its unit for that init.
var runMount = mount{"tmpfs", "/run", "tmpfs", quietly, "mode=755"}

var lateMounts = []mount{
	{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"},
	{"tmpfs", "/dev/shm", "tmpfs", quietly, "mode=1777"},
	{"cgroup2", "/sys/fs/cgroup", "cgroup2", quietly | unix.MS_NOEXEC, ""},
}

// The links in /dev that udev makes elsewhere. devtmpfs has devices only.
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
		// EBUSY: the kernel may have mounted devtmpfs by itself.
		err := unix.Mount(m.source, m.target, m.kind, m.flags, m.options)
		if err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.target, err)
		}
	}
	return nil
}

// furnish creates the other files and directories that programs expect.
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
