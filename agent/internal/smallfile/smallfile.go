// Package smallfile reads and writes small files with as few system calls as possible.
//
// os.File registers each file with the poller and a cleanup with the runtime. A guest that was just restored on an
// emulated CPU has none of that code translated: it is a third of the time for giving it an identity.
package smallfile

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// MaxBytes is the limit for a file that is read.
const MaxBytes = 16 << 20

// Read returns a file's content. A file larger than MaxBytes is an error.
func Read(path string) ([]byte, error) {
	fd, err := open(path, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	content := make([]byte, 0, 512)
	for {
		if len(content) > MaxBytes {
			return nil, failed("read", path, unix.EFBIG)
		}
		if len(content) == cap(content) {
			content = append(content, 0)[:len(content)]
		}
		n, err := retried(func() (int, error) { return unix.Read(fd, content[len(content):cap(content)]) })
		if err != nil {
			return nil, failed("read", path, err)
		}
		if n == 0 {
			return content, nil
		}
		content = content[:len(content)+n]
	}
}

// Set writes text to the start of an existing file, with one call. What the file has beyond it stays.
func Set(path, text string) error {
	fd, err := open(path, unix.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return write(fd, path, text)
}

// Put is Set for a file that may not exist.
func Put(path, text string, mode fs.FileMode) error {
	fd, err := open(path, unix.O_WRONLY|unix.O_CREAT, uint32(mode.Perm()))
	if err != nil {
		return err
	}
	return write(fd, path, text)
}

// Replace is Set for a file that has oldBytes now. Afterwards it has only text.
func Replace(path, text string, oldBytes int) error {
	if err := Set(path, text); err != nil || len(text) >= oldBytes {
		return err
	}
	if err := unix.Truncate(path, int64(len(text))); err != nil {
		return failed("truncate", path, err)
	}
	return nil
}

func write(fd int, path, text string) error {
	n, err := retried(func() (int, error) { return unix.Write(fd, []byte(text)) })
	if closeErr := unix.Close(fd); err == nil {
		err = closeErr
	}
	if err == nil && n < len(text) {
		err = unix.ENOSPC
	}
	if err != nil {
		return failed("write", path, err)
	}
	return nil
}

func open(path string, flags int, mode uint32) (int, error) {
	fd, err := retried(func() (int, error) { return unix.Open(path, flags|unix.O_CLOEXEC, mode) })
	if err != nil {
		return -1, failed("open", path, err)
	}
	return fd, nil
}

func retried(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}

func failed(op, path string, err error) error { return &fs.PathError{Op: op, Path: path, Err: err} }
