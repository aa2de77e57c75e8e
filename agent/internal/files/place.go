package files

import (
	"archive/tar"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"hearth.dev/agent/internal/fault"
)

// linksMax is the limit of symlinks in one path, the same as the kernel's.
const linksMax = 40

// place calls create with a temporary name, and renames the entry when it is complete. What had the name before stays
// until then, and stays for good if create fails.
func (u *unpacker) place(name string, header *tar.Header, create func(temporary string) error) error {
	parent, err := u.resolve(filepath.Dir(name))
	if err != nil {
		return err
	}
	if parent != "." {
		if err := u.root.MkdirAll(parent, 0o755); err != nil {
			return err
		}
	}
	target := filepath.Join(parent, filepath.Base(name))
	if err := u.mayTakePlace(target, header); err != nil {
		return err
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // Never fails, as its documentation says.
	temporary := filepath.Join(parent, ".hearth-"+hex.EncodeToString(random[:])+".part")
	err = create(temporary)
	if err == nil {
		err = u.root.Rename(temporary, target)
	}
	// Needed after success, too: renaming one hard link onto another of the same file leaves both.
	if removeErr := u.root.Remove(temporary); !errors.Is(removeErr, fs.ErrNotExist) {
		err = errors.Join(err, removeErr)
	}
	return err
}

// mayTakePlace refuses to replace anything but regular files and symlinks. A symlink to a directory, such as /bin, is
// replaced only by a symlink.
func (u *unpacker) mayTakePlace(target string, header *tar.Header) error {
	info, err := u.root.Lstat(target)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	switch info.Mode().Type() {
	case 0:
		return nil
	case fs.ModeSymlink:
		if header.Typeflag == tar.TypeSymlink {
			return nil
		}
		behind, err := os.Stat(filepath.Join(u.dir, target))
		if err == nil && behind.IsDir() {
			return fault.New(fault.FileRefused, "%q is a link to a directory in the guest and a file in the archive", target)
		}
		return nil
	case fs.ModeDir:
		return fault.New(fault.FileRefused, "%q is a directory in the guest and a file in the archive", target)
	}
	return fault.New(fault.FileRefused, "%q is a %s in the guest, which is not replaced", target, kindOf(info.Mode()))
}

func kindOf(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeNamedPipe != 0:
		return "FIFO"
	case mode&fs.ModeSocket != 0:
		return "socket"
	}
	return "device"
}

// resolve returns a path below the destination without symlinks. os.Root follows relative links but refuses absolute
// ones, which systems have many of, such as /var/run -> /run. Absolute links that stay below the destination are
// followed here. The rest after the first name that does not exist is not resolved.
func (u *unpacker) resolve(name string) (string, error) {
	rest, done := strings.Split(name, "/"), "."
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch {
		case part == "" || part == ".":
			continue
		case part == ".." && done == "." && u.dir != "/":
			return "", leadsOutFault(name)
		case part == "..":
			done = filepath.Dir(done) // The parent of "." is ".", like that of the root.
			continue
		}
		next := filepath.Join(done, part)
		info, err := u.root.Lstat(next)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if err != nil || info.Mode().Type() != fs.ModeSymlink {
			done = next
			continue
		}
		if links++; links > linksMax {
			return "", fault.New(fault.FileRefused, "%q leads through too many symlinks", name)
		}
		target, err := u.root.Readlink(next)
		if err != nil {
			return "", err
		}
		if filepath.IsAbs(target) {
			if target, err = u.below(target, name); err != nil {
				return "", err
			}
			done = "."
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return done, nil
}

// below converts an absolute link's target into a path below the destination.
func (u *unpacker) below(target, name string) (string, error) {
	if u.dir == "/" {
		return strings.TrimLeft(target, "/"), nil
	}
	relative, err := filepath.Rel(u.dir, target)
	if err != nil || !filepath.IsLocal(relative) {
		return "", leadsOutFault(name)
	}
	return relative, nil
}

func leadsOutFault(name string) error {
	return fault.New(fault.FileRefused, "%q leads out of the destination, through a symlink", name)
}
