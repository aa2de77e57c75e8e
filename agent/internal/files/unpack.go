package files

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"hearth.dev/agent/internal/fault"
)

// Unpacked counts the content of an archive.
type Unpacked struct{ Entries, Bytes uint64 }

// unpacker writes entries below one directory. os.Root walks every path and follows no symlink out of the directory, so
// neither the archive nor a program that swaps links meanwhile can write elsewhere.
type unpacker struct {
	root   *os.Root
	dir    string // The directory's real path.
	buffer []byte
	dirs   []*tar.Header // Finished last: filling one needs write permission and changes its time.
}

// Unpack writes an archive's entries below the directory dir. Owners are the archive's numeric ids; its names are
// ignored. A file is written under a temporary name and replaces an existing one when it is complete. Directories, and
// links to directories, are kept and filled. Refused are entries that would leave the directory, devices, and entries
// that would replace a directory, a link to one, a device, a FIFO or a socket. Nothing is unpacked after a refused
// entry.
func Unpack(ctx context.Context, r io.Reader, dir string, createParents bool) (Unpacked, error) {
	if createParents {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return Unpacked{}, writeFault(err, dir)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Unpacked{}, writeFault(err, dir)
	}
	defer root.Close()
	realDir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return Unpacked{}, writeFault(err, dir)
	}
	u := unpacker{root: root, dir: realDir, buffer: make([]byte, copyBytes)}
	done, err := u.unpack(ctx, tar.NewReader(r))
	// After a failure, too: what was unpacked gets its modes.
	if finishErr := u.finishDirs(); err == nil {
		err = finishErr
	}
	return done, err
}

func (u *unpacker) unpack(ctx context.Context, archive *tar.Reader) (Unpacked, error) {
	var done Unpacked
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return done, nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return done, streamFault(err)
		}
		if header.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		name, err := entryName(header.Name)
		if err != nil {
			return done, err
		}
		written, err := u.add(name, header, archive)
		done.Bytes += written
		if err != nil {
			return done, writeFault(err, name)
		}
		done.Entries++
	}
}

// entryName refuses names that no well-formed archive has. os.Root would refuse them as well; this error has a reason.
func entryName(raw string) (string, error) {
	name := strings.TrimRight(raw, "/")
	if strings.HasPrefix(raw, "/") || strings.ContainsRune(raw, 0) {
		return "", fault.New(fault.FileRefused, "the archive's entry %q has an absolute or broken name", raw)
	}
	for _, part := range strings.Split(name, "/") {
		if part == ".." {
			return "", fault.New(fault.FileRefused, "the archive's entry %q leads out of the destination", raw)
		}
	}
	return filepath.Clean(name), nil
}

func (u *unpacker) add(name string, header *tar.Header, content io.Reader) (uint64, error) {
	if header.Typeflag == tar.TypeDir {
		return 0, u.addDir(name, header)
	}
	if name == "." {
		return 0, fault.New(fault.FileRefused, "the archive would replace the destination itself")
	}
	switch header.Typeflag {
	case tar.TypeReg:
		var written uint64
		err := u.place(name, header, func(temporary string) (err error) {
			written, err = u.addFile(temporary, header, content)
			return err
		})
		return written, err
	case tar.TypeSymlink:
		return 0, u.place(name, header, func(temporary string) error {
			if err := u.root.Symlink(header.Linkname, temporary); err != nil {
				return err
			}
			return errors.Join(u.root.Lchown(temporary, header.Uid, header.Gid), u.setLinkTime(temporary, header.ModTime))
		})
	case tar.TypeLink:
		linked, err := entryName(header.Linkname)
		if err != nil {
			return 0, err
		}
		return 0, u.place(name, header, func(temporary string) error {
			parent, err := u.resolve(filepath.Dir(linked))
			if err != nil {
				return err
			}
			return u.root.Link(filepath.Join(parent, filepath.Base(linked)), temporary)
		})
	}
	return 0, fault.New(fault.FileRefused, "the archive's entry %q is neither file, directory nor link", name)
}

func (u *unpacker) addDir(name string, header *tar.Header) error {
	if name == "." {
		return nil // The destination belongs to the caller and keeps its mode.
	}
	// A symlink to a directory stays: /bin in an archive is not meant to replace the link /bin of Debian.
	name, err := u.resolve(name)
	if err != nil || name == "." {
		return err
	}
	if err := u.root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	info, err := u.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := u.root.Mkdir(name, 0o700); err != nil {
			return err
		}
	} else if err != nil {
		return err
	} else if !info.IsDir() {
		return fault.New(fault.FileRefused, "%q is a file in the guest and a directory in the archive", name)
	}
	u.dirs = append(u.dirs, &tar.Header{
		Name: name, Mode: header.Mode, Uid: header.Uid, Gid: header.Gid, ModTime: header.ModTime,
	})
	return nil
}

func (u *unpacker) addFile(name string, header *tar.Header, content io.Reader) (uint64, error) {
	file, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	written, err := io.CopyBuffer(struct{ io.Writer }{file}, content, u.buffer)
	if err != nil {
		return uint64(written), streamFault(err)
	}
	// The owner is set before the mode, because a change of owner clears set-user-id bits.
	if err := file.Chown(header.Uid, header.Gid); err != nil {
		return uint64(written), err
	}
	if err := unix.Fchmod(int(file.Fd()), uint32(header.Mode&0o7777)); err != nil {
		return uint64(written), err
	}
	if err := u.root.Chtimes(name, header.ModTime, header.ModTime); err != nil {
		return uint64(written), err
	}
	return uint64(written), file.Close()
}

func (u *unpacker) finishDirs() error {
	var failures []error
	for i := len(u.dirs) - 1; i >= 0; i-- {
		header := u.dirs[i]
		failures = append(failures, u.finishDir(header))
	}
	return errors.Join(failures...)
}

func (u *unpacker) finishDir(header *tar.Header) error {
	dir, err := u.root.Open(header.Name)
	if err != nil {
		return writeFault(err, header.Name)
	}
	defer dir.Close()
	if err := dir.Chown(header.Uid, header.Gid); err != nil {
		return writeFault(err, header.Name)
	}
	if err := unix.Fchmod(int(dir.Fd()), uint32(header.Mode&0o7777)); err != nil {
		return writeFault(err, header.Name)
	}
	return u.root.Chtimes(header.Name, header.ModTime, header.ModTime)
}

func (u *unpacker) setLinkTime(name string, at time.Time) error {
	parent, err := u.root.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer parent.Close()
	spec, err := unix.TimeToTimespec(at)
	if err != nil {
		return err
	}
	times := []unix.Timespec{spec, spec}
	return unix.UtimesNanoAt(int(parent.Fd()), filepath.Base(name), times, unix.AT_SYMLINK_NOFOLLOW)
}
