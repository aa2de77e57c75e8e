package execs

import (
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"hearth.dev/agent/internal/reaper"
)

// Exit is how a command ended.
type Exit struct {
	Code     uint32 // 128+n when signal n ended it.
	Signal   uint32 // 0: it exited by itself.
	TimedOut bool
}

const (
	// Between SIGTERM and SIGKILL of a command that ran out of time.
	killAfter  = 2 * time.Second
	chunkBytes = 64 << 10
)

// Command is a process that was started, with its streams.
type Command struct {
	ID      string
	process *reaper.Process
	streams *streams

	timedOut atomic.Bool
	timers   sync.Mutex
	timer    *time.Timer
}

// Pid is the number of the command's process, which leads its group and session.
func (c *Command) Pid() int { return c.process.Pid }

// Done is closed when the command's main process has ended.
func (c *Command) Done() <-chan struct{} { return c.process.Done() }

// Exit is how the main process ended. Only after Done.
func (c *Command) Exit() Exit {
	status := c.process.Status()
	if status.Signaled() {
		signal := uint32(status.Signal())
		return Exit{Code: 128 + signal, Signal: signal, TimedOut: c.timedOut.Load()}
	}
	return Exit{Code: uint32(status.ExitStatus()), TimedOut: c.timedOut.Load()}
}

// Signal reaches the command's whole process group.
func (c *Command) Signal(signal syscall.Signal) error { return c.process.SignalGroup(signal) }

// Resize tells the command's terminal its size. Without a terminal it does nothing.
func (c *Command) Resize(rows, cols uint16) error {
	if c.streams.terminal == nil {
		return nil
	}
	return setWindow(c.streams.terminal, rows, cols)
}

// Kill ends the whole group at once, and with it what else lives in the command's session: a shell's
// background jobs have groups of their own.
func (c *Command) Kill() {
	select {
	case <-c.Done():
		return // Its number may be another's.
	default:
	}
	session := sessionMembers(c.Pid())
	if c.Signal(unix.SIGKILL) != nil {
		return
	}
	for _, pid := range session {
		_ = unix.Kill(pid, unix.SIGKILL) // One that is gone needs no signal.
	}
}

// HangUp is what a terminal's end means to those who use it. Without a terminal it does nothing.
func (c *Command) HangUp() {
	if c.streams.terminal != nil {
		_ = c.Signal(unix.SIGHUP) // The command may end by itself right now.
	}
}

// Input is where the command's stdin is written to: a pipe or the terminal. Nil if it has none.
func (c *Command) Input() io.Writer {
	if c.streams.stdin == nil {
		return nil
	}
	return c.streams.stdin
}

// endOfTransmission is Ctrl-D: what ends the input of a program on a terminal, which cannot be closed.
const endOfTransmission = 4

// CloseInput ends the command's stdin.
func (c *Command) CloseInput() error {
	switch {
	case c.streams.terminal != nil:
		_, err := c.streams.terminal.Write([]byte{endOfTransmission})
		return err
	case c.streams.stdin != nil:
		return c.streams.stdin.Close()
	}
	return nil
}

// Close gives the streams up. A command on a terminal is hung up by that.
func (c *Command) Close() { c.streams.close() }

func (c *Command) armTimeout(timeout time.Duration) {
	if timeout <= 0 {
		return
	}
	c.timers.Lock()
	c.timer = time.AfterFunc(timeout, func() {
		if c.Signal(unix.SIGTERM) != nil {
			return
		}
		c.timedOut.Store(true)
		c.timers.Lock()
		c.timer = time.AfterFunc(killAfter, c.Kill)
		c.timers.Unlock()
	})
	c.timers.Unlock()
	go func() {
		<-c.Done()
		c.timers.Lock()
		c.timer.Stop()
		c.timers.Unlock()
	}()
}

// Sink receives output. Calls do not overlap, and a slow one holds the command up: that is the backpressure.
type Sink func(stream int, chunk []byte) error

const (
	Stdout = 1
	Stderr = 2
)

// CopyOutput passes all output on until the command is done with it (see drain.go), or the sink fails.
func (c *Command) CopyOutput(sink Sink) error {
	var lock sync.Mutex
	var readers sync.WaitGroup
	failures := make([]error, 2)
	for i, file := range []*os.File{c.streams.stdout, c.streams.stderr} {
		if file == nil {
			continue
		}
		readers.Add(1)
		go func() {
			defer readers.Done()
			failures[i] = drain(file, c.Done(), func(chunk []byte) error {
				lock.Lock()
				defer lock.Unlock()
				return sink(i+1, chunk)
			})
		}()
	}
	readers.Wait()
	if failures[0] != nil {
		return failures[0]
	}
	return failures[1]
}
