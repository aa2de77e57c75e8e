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

// Exit is the end of a command.
type Exit struct {
	Code     uint32 // 128+n if signal n ended it.
	Signal   uint32 // 0: it exited by itself.
	TimedOut bool
}

const (
	// The time between SIGTERM and SIGKILL for a command that exceeded its time limit.
	killAfter  = 2 * time.Second
	chunkBytes = 64 << 10
)

// Command is a started process with its streams.
type Command struct {
	ID      string
	process *reaper.Process
	streams *streams

	timedOut atomic.Bool
	timers   sync.Mutex
	timer    *time.Timer
}

// Pid is the pid of the command's main process, which leads its group and session.
func (c *Command) Pid() int { return c.process.Pid }

// Done is closed when the command's main process has ended.
func (c *Command) Done() <-chan struct{} { return c.process.Done() }

// Exit returns how the main process ended. Valid only after Done.
func (c *Command) Exit() Exit {
	status := c.process.Status()
	if status.Signaled() {
		signal := uint32(status.Signal())
		return Exit{Code: 128 + signal, Signal: signal, TimedOut: c.timedOut.Load()}
	}
	return Exit{Code: uint32(status.ExitStatus()), TimedOut: c.timedOut.Load()}
}

// Signal signals the command's whole process group.
func (c *Command) Signal(signal syscall.Signal) error { return c.process.SignalGroup(signal) }

// Resize sets the size of the command's terminal. Without a terminal it does nothing.
func (c *Command) Resize(rows, cols uint16) error {
	if c.streams.terminal == nil {
		return nil
	}
	return setWindow(c.streams.terminal, rows, cols)
}

// Kill kills the process group, and all other processes of the command's session: a shell's background jobs have their
// own groups.
func (c *Command) Kill() {
	select {
	case <-c.Done():
		return // Its pid may belong to another process now.
	default:
	}
	session := sessionMembers(c.Pid())
	if c.Signal(unix.SIGKILL) != nil {
		return
	}
	for _, pid := range session {
		_ = unix.Kill(pid, unix.SIGKILL) // Fails harmlessly if the process is gone.
	}
}

// HangUp sends SIGHUP to the group of a command with a terminal. Without a terminal it does nothing.
func (c *Command) HangUp() {
	if c.streams.terminal != nil {
		_ = c.Signal(unix.SIGHUP) // The command may end at this moment.
	}
}

// Input returns the writer of the command's stdin: a pipe or the terminal. Nil if it has none.
func (c *Command) Input() io.Writer {
	if c.streams.stdin == nil {
		return nil
	}
	return c.streams.stdin
}

// endOfTransmission is Ctrl-D, which ends the input of a program on a terminal, because a terminal cannot be
// half-closed.
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

// Close closes the agent's ends of the streams. A command on a terminal gets a hangup.
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

// Sink receives output. Calls do not overlap. A slow sink blocks the command, which is the backpressure.
type Sink func(stream int, chunk []byte) error

const (
	Stdout = 1
	Stderr = 2
)

// CopyOutput passes all output to the sink until the output is over (see drain.go) or the sink fails.
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
