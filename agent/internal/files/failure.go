package files

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"
	"hearth.dev/agent/internal/fault"
)

// writeFault explains why a path could not be written. An error that has a code keeps it.
func writeFault(err error, path string) error {
	var f *fault.Fault
	switch {
	case errors.As(err, &f):
		return err
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fault.New(fault.DiskFull, "the guest's disk is full; %q was not written", path)
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.FileNotFound, "there is no directory %q in the guest", path)
	case errors.Is(err, unix.ENOTDIR):
		return fault.New(fault.FileRefused, "%q needs a directory where the guest has a file", path)
	case leadsOut(err):
		return fault.New(fault.FileRefused, "%q leads out of the destination, through a symlink", path)
	}
	return fault.Because(err, fault.AgentFailed, "%q cannot be written", path)
}

// leadsOut recognizes os.Root's error for a path that leads out of it, which has no exported value.
func leadsOut(err error) bool {
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return err.Error() == "path escapes from parent"
}

// streamFault explains why the archive could not be read or copied.
func streamFault(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.Because(err, fault.InputInvalid, "the archive is broken")
	}
	return err
}
