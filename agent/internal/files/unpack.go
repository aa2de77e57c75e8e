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

// Unpacked counts what an archive held.
type Unpacked struct{ Entries, Bytes uint64 }

// unpacker writes entries below one directory. Every path is walked by os.Root, which follows no symlink out of
// it; so neither the archive nor a program that plays with links meanwhile leads anything out.
type unpacker struct {
	root    *os.Root
	dir     string // The folder's real path.
	buffer  []byte
	folders []*tar.Header // Their modes and times come last: a folder may be read only, and filling it changes its time.
}

// Unpack writes an archive's entries below the directory dir. Owners are the archive's numbers (names are not
// looked at): who wants root's files says 0. A file is written under another name and takes the place of an existing
// one when it is whole; directories, and links to directories, are kept and filled. Refused are entries that would leave the
// directory, devices, and what would replace a directory, a link to one, a device, a FIFO or a socket; nothing after them
// is unpacked.
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
	// Also after a failure: what was unpacked gets the modes it should have.
	if finishErr := u.finishFolders(); err == nil {
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

// entryName refuses what a well-meant archive never holds. The walk would refuse to leave too; this says why.
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
		return 0, u.addFolder(name, header)
	}
	if name == "." {
		return 0, fault.New(fault.FileRefused, "the archive would replace the destination itself")
	}
	switch header.Typeflag {
	case tar.TypeReg:
		var written uint64
		err := u.place(name, header, func(draft string) (err error) {
			written, err = u.addFile(draft, header, content)
			return err
		})
		return written, err
	case tar.TypeSymlink:
		return 0, u.place(name, header, func(draft string) error {
			if err := u.root.Symlink(header.Linkname, draft); err != nil {
				return err
			}
			return errors.Join(u.root.Lchown(draft, header.Uid, header.Gid), u.setLinkTime(draft, header.ModTime))
		})
	case tar.TypeLink:
		linked, err := entryName(header.Linkname)
		if err != nil {
			return 0, err
		}
		return 0, u.place(name, header, func(draft string) error {
			parent, err := u.resolve(filepath.Dir(linked))
			if err != nil {
				return err
			}
			return u.root.Link(filepath.Join(parent, filepath.Base(linked)), draft)
		})
	}
	return 0, fault.New(fault.FileRefused, "the archive's entry %q is neither file, directory nor link", name)
}

func (u *unpacker) addFolder(name string, header *tar.Header) error {
	if name == "." {
		return nil // The destination is the caller's, with the mode it has.
	}
	// A symlink to a directory stays one: /bin in an archive is not meant to replace the /bin of Debian.
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
	u.folders = append(u.folders, &tar.Header{
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
	// The owner first: a change of owner takes set-user-id bits away.
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

func (u *unpacker) finishFolders() error {
	var failures []error
	for i := len(u.folders) - 1; i >= 0; i-- {
		header := u.folders[i]
		failures = append(failures, u.finishFolder(header))
	}
	return errors.Join(failures...)
}

func (u *unpacker) finishFolder(header *tar.Header) error {
	folder, err := u.root.Open(header.Name)
	if err != nil {
		return writeFault(err, header.Name)
	}
	defer folder.Close()
	if err := folder.Chown(header.Uid, header.Gid); err != nil {
		return writeFault(err, header.Name)
	}
	if err := unix.Fchmod(int(folder.Fd()), uint32(header.Mode&0o7777)); err != nil {
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
