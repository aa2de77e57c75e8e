package files

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// plainFile is a regular file that is read without blocking: a file of /proc that has no data yet fails instead.
type plainFile struct {
	fd   int
	path string
	size int64
}

// openPlain opens a regular file. It fails if another kind of file has replaced it meanwhile.
func openPlain(path string) (*plainFile, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	file := plainFile{fd: fd, path: path}
	var s unix.Stat_t
	if err := unix.Fstat(fd, &s); err != nil {
		return nil, errors.Join(file.failure(err), unix.Close(fd))
	}
	if s.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.Join(file.failure(errors.New("is no regular file any more")), unix.Close(fd))
	}
	file.size = s.Size
	return &file, nil
}

// close closes the descriptor. Nothing was written, so no error can matter.
func (f *plainFile) close() { _ = unix.Close(f.fd) }

func (f *plainFile) failure(err error) error {
	return &fs.PathError{Op: "read", Path: f.path, Err: err}
}

// readFull fills the buffer, or reads to the end of the file.
func (f *plainFile) readFull(buffer []byte) ([]byte, error) {
	filled := 0
	for filled < len(buffer) {
		n, err := unix.Read(f.fd, buffer[filled:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return buffer[:filled], f.failure(err)
		}
		if n == 0 {
			break
		}
		filled += n
	}
	return buffer[:filled], nil
}

// readSizeless reads the rest of a file whose size the kernel does not know, after its head.
func (f *plainFile) readSizeless(head []byte) ([]byte, error) {
	content := append([]byte(nil), head...)
	buffer := make([]byte, copyBytes)
	for {
		part, err := f.readFull(buffer)
		if err != nil {
			return nil, err
		}
		if len(part) == 0 {
			return content, nil
		}
		if content = append(content, part...); len(content) > sizelessMaxBytes {
			return nil, f.failure(errors.New("has no size, and more than 16 MiB"))
		}
	}
}
