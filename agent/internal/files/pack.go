// Package files moves files and folders in and out of the guest as tar streams (POSIX pax).
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

// packer writes one tree into an archive.
type packer struct {
	ctx    context.Context
	out    *tar.Writer
	links  map[inode]string // Names of files that have several, by their first entry.
	buffer []byte
}

type inode struct{ dev, ino uint64 }

const copyBytes = 64 << 10

// WriteTarTo archives a file or folder. Entries are named after the path's last element: /etc/apt gives
// "apt/", "apt/sources.list" and so on. A path that ends in "/." gives the folder's contents, without that
// name. A symlink is archived as one. Sockets have no place in an archive and are left out.
func WriteTarTo(ctx context.Context, w io.Writer, path string) error {
	p := packer{ctx: ctx, out: tar.NewWriter(w), links: map[inode]string{}, buffer: make([]byte, copyBytes)}
	base := filepath.Base(path)
	if strings.HasSuffix(path, "/.") || base == "/" {
		base = "."
	}
	if _, err := os.Lstat(path); err != nil {
		return readFault(err, path)
	}
	root := filepath.Clean(path)
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			if file != root && errors.Is(err, fs.ErrNotExist) {
				return nil // Removed meanwhile, as files in a living system are.
			}
			return err
		}
		relative, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		return p.add(file, filepath.Join(base, relative))
	})
	if err != nil {
		return readFault(err, path)
	}
	return p.out.Close()
}

func (p *packer) add(path, name string) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	var s unix.Stat_t
	if err := unix.Lstat(path, &s); err != nil {
		if err == unix.ENOENT {
			return nil
		}
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	header, err := headerOf(path, name, &s)
	if err != nil || header == nil {
		return err
	}
	id := inode{s.Dev, s.Ino}
	if header.Typeflag == tar.TypeReg && s.Nlink > 1 {
		if first, ok := p.links[id]; ok {
			header.Typeflag, header.Linkname, header.Size = tar.TypeLink, first, 0
			return p.out.WriteHeader(header)
		}
		p.links[id] = name
	}
	if header.Typeflag != tar.TypeReg {
		return p.out.WriteHeader(header)
	}
	return p.addContent(path, header)
}

// addContent opens the file before it announces it: a header without its content breaks the archive.
func (p *packer) addContent(path string, header *tar.Header) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close()
	if err := p.out.WriteHeader(header); err != nil {
		return err
	}
	// A file that grows is cut at its announced size; one that shrinks is filled up with zeros.
	written, err := io.CopyBuffer(struct{ io.Writer }{p.out}, io.LimitReader(file, header.Size), p.buffer)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{p.out}, io.LimitReader(zeros{}, header.Size-written), p.buffer)
	return err
}

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
		return nil, nil
	}
	return header, nil
}

func readFault(err error, path string) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return fault.New(fault.FileNotFound, "there is no file %q in the guest", path)
	case errors.Is(err, context.Canceled):
		return err
	}
	return fault.Because(err, fault.AgentFailed, "%q cannot be read", path)
}
