// Package files copies files and directories into and out of the guest as tar streams (POSIX pax).
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

// SkippedRecord is the key of a global pax header that names a file which is missing in the archive, and the reason:
// its value is "NAME: REASON". Hearth reads it; other programs print or ignore it.
const SkippedRecord = "HEARTH.skipped"

const (
	copyBytes = 64 << 10
	// sizelessMaxBytes is the limit for files without a size in stat, such as those of /proc, which are read into
	// memory.
	sizelessMaxBytes = 16 << 20
)

// packer writes one tree into an archive.
type packer struct {
	ctx    context.Context
	out    *tar.Writer
	links  map[inode]string // The first entry of each file that has several names.
	buffer []byte
}

type inode struct{ dev, ino uint64 }

// WriteTarTo archives a file or directory. Entries are named after the last element of the path: /etc/apt gives "apt/",
// "apt/sources.list" and so on. A path that ends in "/." gives the directory's content, without that name. A symlink is
// archived as a symlink, unless the path ends in "/" or "/.": then it must lead to a directory, which is archived.
// Sockets, and files that cannot be read, are skipped, and each is named in a SkippedRecord.
func WriteTarTo(ctx context.Context, w io.Writer, path string) error {
	root, base, err := findSource(path)
	if err != nil {
		return readFault(err, path)
	}
	p := packer{ctx: ctx, out: tar.NewWriter(w), links: map[inode]string{}, buffer: make([]byte, copyBytes)}
	err = filepath.WalkDir(root, func(file string, _ fs.DirEntry, err error) error {
		relative, relErr := filepath.Rel(root, file)
		if relErr != nil {
			return relErr
		}
		name := filepath.Join(base, relative)
		if err == nil {
			err = p.add(file, name)
		}
		var unreadable *unreadableError
		if err == nil || file == root || !errors.As(asUnreadable(err), &unreadable) {
			return err
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // Removed meanwhile, as files of a running system are.
		}
		return p.skip(name, unreadable)
	})
	if err != nil {
		return readFault(err, path)
	}
	return p.out.Close()
}

// findSource resolves the links above the tree. It returns the tree's path and the name of its first entry.
func findSource(path string) (root, base string, err error) {
	base = filepath.Base(path)
	isContents := strings.HasSuffix(path, "/.") || base == "/"
	if !isContents && base != ".." && !strings.HasSuffix(path, "/") {
		if _, err := os.Lstat(path); err != nil {
			return "", "", err
		}
		parent, err := filepath.EvalSymlinks(path[:strings.LastIndexByte(path, '/')+1])
		return filepath.Join(parent, base), base, err
	}
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: path, Err: unix.ENOTDIR}
	}
	if err != nil {
		return "", "", err
	}
	if root, err = filepath.EvalSymlinks(path); err != nil {
		return "", "", err
	}
	switch {
	case isContents || root == "/":
		base = "."
	case base == "..":
		base = filepath.Base(root)
	}
	return root, base, nil
}

// unreadableError is the reason for which one file is missing in an archive that is otherwise complete.
type unreadableError struct{ reason error }

func (e *unreadableError) Error() string { return e.reason.Error() }
func (e *unreadableError) Unwrap() error { return e.reason }

// asUnreadable makes errors of the file system errors of one file. All others are errors of the archive.
func asUnreadable(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return &unreadableError{path.Err}
	}
	return err
}

func (p *packer) skip(name string, reason error) error {
	record := map[string]string{SkippedRecord: name + ": " + reason.Error()}
	return p.out.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: record})
}

func (p *packer) add(path, name string) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	var s unix.Stat_t
	if err := unix.Lstat(path, &s); err != nil {
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	header, err := headerOf(path, name, &s)
	if err != nil {
		return err
	}
	if header.Typeflag != tar.TypeReg {
		return p.out.WriteHeader(header)
	}
	id := inode{s.Dev, s.Ino}
	if first, ok := p.links[id]; ok && s.Nlink > 1 {
		header.Typeflag, header.Linkname, header.Size = tar.TypeLink, first, 0
		return p.out.WriteHeader(header)
	}
	if err := p.addContent(path, header); err != nil {
		return err
	}
	if s.Nlink > 1 {
		p.links[id] = name
	}
	return nil
}

// addContent reads the file's head before it writes the header: a header without its content breaks the archive. For a
// file that fits into the buffer the bytes that were read decide, and not the size in stat: it is 0 in /proc and 4096
// in /sys.
func (p *packer) addContent(path string, header *tar.Header) error {
	file, err := openPlain(path)
	if err != nil {
		return err
	}
	defer file.close()
	head, err := file.readFull(p.buffer)
	if err != nil {
		return err
	}
	switch {
	case len(head) < len(p.buffer):
		header.Size = int64(len(head))
	case file.size <= int64(len(head)):
		if head, err = file.readSizeless(head); err != nil {
			return err
		}
		header.Size = int64(len(head))
	default:
		header.Size = file.size
	}
	if err := p.out.WriteHeader(header); err != nil {
		return err
	}
	if _, err := p.out.Write(head); err != nil {
		return err
	}
	return p.addRest(file, header, header.Size-int64(len(head)))
}

// addRest adds the content after a file's head. A file that grew is cut at its announced size. One that shrank, or
// cannot be read to its end, is filled with zeros, and named in a SkippedRecord.
func (p *packer) addRest(file *plainFile, header *tar.Header, left int64) error {
	var failure error
	for left > 0 && failure == nil {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		part, err := file.readFull(p.buffer[:min(left, int64(len(p.buffer)))])
		switch {
		case err != nil:
			failure = err
		case len(part) == 0:
			failure = errors.New("became shorter while it was read; its end is zeros")
		}
		if _, err := p.out.Write(part); err != nil {
			return err
		}
		left -= int64(len(part))
	}
	if failure == nil {
		return nil
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{p.out}, io.LimitReader(zeros{}, left), p.buffer); err != nil {
		return err
	}
	return p.skip(header.Name, failure)
}

var errIsSocket = errors.New("a socket has no place in an archive")

type zeros struct{}

func (zeros) Read(out []byte) (int, error) {
	clear(out)
	return len(out), nil
}

func headerOf(path, name string, s *unix.Stat_t) (*tar.Header, error) {
	header := &tar.Header{
		Format:  tar.FormatPAX,
		Name:    name,
		Mode:    int64(s.Mode & 0o7777),
		Uid:     int(s.Uid),
		Gid:     int(s.Gid),
		ModTime: time.Unix(s.Mtim.Unix()),
	}
	switch s.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		header.Typeflag, header.Size = tar.TypeReg, s.Size
	case unix.S_IFDIR:
		header.Typeflag = tar.TypeDir
		header.Name += "/"
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return nil, err
		}
		header.Typeflag, header.Linkname = tar.TypeSymlink, target
	case unix.S_IFIFO:
		header.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		header.Typeflag = tar.TypeChar
		if s.Mode&unix.S_IFMT == unix.S_IFBLK {
			header.Typeflag = tar.TypeBlock
		}
		header.Devmajor, header.Devminor = int64(unix.Major(s.Rdev)), int64(unix.Minor(s.Rdev))
	default:
		return nil, &fs.PathError{Op: "read", Path: path, Err: errIsSocket}
	}
	return header, nil
}

func readFault(err error, path string) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return fault.New(fault.FileNotFound, "there is no file %q in the guest", path)
	case errors.Is(err, unix.ELOOP):
		return fault.New(fault.FileRefused, "%q leads through too many symlinks", path)
	case errors.Is(err, errIsSocket):
		return fault.New(fault.FileRefused, "%q is a socket, which has no place in an archive", path)
	case errors.Is(err, context.Canceled):
		return err
	}
	return fault.Because(err, fault.AgentFailed, "%q cannot be read", path)
}
