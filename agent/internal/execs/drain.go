package execs

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// The end of a command's output. A command may leave children that hold its output open, as `sh -c 'server & echo
// started'` does, and waiting for EOF would wait for the server. But everything that the command itself wrote must
// arrive, however slow the reader is. So, once the main process has ended:
//
//  1. The bytes that are in the pipe are passed on, without a deadline.
//  2. The output is over when none arrived for drainIdle, or after drainMost, for a child that never stops writing.
const (
	drainIdle = 150 * time.Millisecond
	drainMost = 2 * time.Second
)

func drain(file *os.File, ended <-chan struct{}, pass func([]byte) error) error {
	buffer := make([]byte, chunkBytes)
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-ended:
			// Ends a pending read. The loop below then sees that the command has ended.
			_ = file.SetReadDeadline(time.Unix(1, 0))
		case <-over:
		}
	}()
	for {
		n, err := file.Read(buffer)
		if n > 0 {
			if err := pass(buffer[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return drainRest(file, buffer, pass)
			}
			return endOfOutput(err)
		}
	}
}

func drainRest(file *os.File, buffer []byte, pass func([]byte) error) error {
	owed := waiting(file)
	var latest time.Time
	for {
		if owed <= 0 && latest.IsZero() {
			latest = time.Now().Add(drainMost)
		}
		if owed <= 0 && time.Now().After(latest) {
			return nil
		}
		if err := file.SetReadDeadline(time.Now().Add(drainIdle)); err != nil {
			return endOfOutput(err)
		}
		n, err := file.Read(buffer)
		owed -= n
		if n > 0 {
			if err := pass(buffer[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return endOfOutput(err)
		}
	}
}

// endOfOutput maps ends to io.EOF, and returns other errors as they are. A terminal ends with EIO when no process has
// it open.
func endOfOutput(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, unix.EIO) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
