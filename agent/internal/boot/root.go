package boot

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"hearth.dev/agent/internal/disks"
)

const (
	newRoot   = "/newroot"
	baseMount = "/lower"
	diskMount = "/rw"
)

// mountRoot mounts the VM's disk as an overlay on the image. It returns a path of the disk's mount that stays valid
// when the mount is hidden.
func mountRoot(console *Console, options Options) (string, error) {
	baseDevice, err := disks.Find(options.Base)
	if err != nil {
		return "", err
	}
	diskDevice, err := disks.Find(options.Disk)
	if err != nil {
		return "", err
	}
	err = mountAll([]mount{
		// The image was unmounted cleanly, and a journal cannot be replayed on a read-only device anyway.
		{baseDevice, baseMount, "ext4", unix.MS_RDONLY, "noload"},
		{diskDevice, diskMount, "ext4", unix.MS_NOATIME, ""},
	})
	if err != nil {
		return "", err
	}
	if err := growDisk(diskDevice, diskMount); err != nil {
		console.Say("the disk keeps its size: %v", err)
	}
	for _, dir := range []string{diskMount + "/upper", diskMount + "/work"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
	}
	layers := "lowerdir=" + baseMount + ",upperdir=" + diskMount + "/upper,workdir=" + diskMount + "/work"
	if err := mountAll([]mount{{"overlay", newRoot, "overlay", 0, layers}}); err != nil {
		return "", err
	}
	return disks.KeepOpen(diskMount)
}

// switchRoot makes newRoot the root and frees the memory of the initramfs.
func switchRoot() error {
	old, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the initramfs: %w", err)
	}
	defer unix.Close(old)
	for _, m := range earlyMounts {
		if err := os.MkdirAll(newRoot+m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.target, newRoot+m.target, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", m.target, err)
		}
	}
	if err := unix.Chdir(newRoot); err != nil {
		return fmt.Errorf("enter the new root: %w", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the new root: %w", err)
	}
	if err := errors.Join(unix.Chroot("."), unix.Chdir("/")); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	return emptyInitramfs(old)
}

// emptyInitramfs deletes the files of the directory's own file system. It does not descend into mounts.
func emptyInitramfs(dir int) error {
	var s unix.Stat_t
	if err := unix.Fstat(dir, &s); err != nil {
		return fmt.Errorf("stat the initramfs: %w", err)
	}
	var kind unix.Statfs_t
	if err := unix.Fstatfs(dir, &kind); err != nil {
		return fmt.Errorf("stat the initramfs: %w", err)
	}
	if kind.Type != unix.RAMFS_MAGIC && kind.Type != unix.TMPFS_MAGIC {
		return errors.New("the old root is no initramfs; nothing of it is deleted")
	}
	emptyDir(dir, s.Dev)
	return nil
}

func emptyDir(dir int, dev uint64) {
	copied, err := unix.Dup(dir)
	if err != nil {
		return
	}
	opened := os.NewFile(uintptr(copied), "initramfs")
	defer opened.Close()
	names, _ := opened.Readdirnames(-1) // What cannot be listed only costs memory.
	for _, name := range names {
		var s unix.Stat_t
		if unix.Fstatat(dir, name, &s, unix.AT_SYMLINK_NOFOLLOW) != nil || s.Dev != dev {
			continue
		}
		if s.Mode&unix.S_IFMT != unix.S_IFDIR {
			_ = unix.Unlinkat(dir, name, 0)
			continue
		}
		child, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		emptyDir(child, dev)
		unix.Close(child)
		_ = unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	}
}

// ReadCommandLine parses the command line of the running kernel.
func ReadCommandLine() (Options, error) {
	text, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return Options{}, err
	}
	return ParseCommandLine(strings.TrimSpace(string(text)))
}
