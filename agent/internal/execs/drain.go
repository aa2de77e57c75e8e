package execs

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A command may leave children behind that hold its output open: `sh -c 'server & echo started'`. Waiting
// for the end of the output would then wait for the server. But what the command itself wrote has to arrive,
// however slow the reader is. So, once the main process has ended:
//
//	what was in the pipe by then is passed on, without any deadline;
//	then the output counts as over when nothing came for drainIdle,
//	or at the latest after drainMost, for a child that never stops writing.
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
			// Wakes a read that waits; the loop below then sees that the command has ended.
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

// endOfOutput sorts ends from failures. A terminal ends with EIO when nobody has it open any more.
func endOfOutput(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, unix.EIO) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
