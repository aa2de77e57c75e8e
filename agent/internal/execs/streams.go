package execs

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// streams are both sides of a command's stdin, stdout and stderr. The child's ends are plain descriptors in blocking
// mode, as programs expect. The agent's ends are in non-blocking mode, so that reads have deadlines.
type streams struct {
	child [3]int

	stdin, stdout, stderr *os.File // The agent's ends; nil if there is none. With a terminal stderr is nil.
	terminal              *os.File // Also stdin and stdout.
}

const (
	noDescriptor = -1
	pipeBytes    = 256 << 10
)

func newStreams() *streams {
	return &streams{child: [3]int{noDescriptor, noDescriptor, noDescriptor}}
}

// openStreams opens what the spec asks for. The terminal will belong to uid.
func openStreams(spec Spec, uid uint32) (*streams, error) {
	s := newStreams()
	var err error
	if spec.Tty != nil {
		err = s.openTerminal(*spec.Tty, uid)
	} else {
		err = s.openPipes(spec.Stdin && !spec.Detach, !spec.Detach)
	}
	if err != nil {
		s.closeChild()
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *streams) openPipes(input, output bool) (err error) {
	if input {
		if s.child[0], s.stdin, err = pipe(0); err != nil {
			return err
		}
	} else if s.child[0], err = unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	for i, own := range []**os.File{&s.stdout, &s.stderr} {
		if output {
			s.child[i+1], *own, err = pipe(1)
		} else {
			s.child[i+1], err = unix.Open(os.DevNull, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pipe makes a pipe of which the child gets one end (0 reads, 1 writes) and the agent the other.
func pipe(childEnd int) (int, *os.File, error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return noDescriptor, nil, fmt.Errorf("pipe: %w", err)
	}
	// A larger pipe needs fewer context switches. Without the privilege it keeps its size.
	_, _ = unix.FcntlInt(uintptr(ends[0]), unix.F_SETPIPE_SZ, pipeBytes)
	own := ends[1-childEnd]
	if err := unix.SetNonblock(own, true); err != nil {
		unix.Close(ends[0])
		unix.Close(ends[1])
		return noDescriptor, nil, err
	}
	return ends[childEnd], os.NewFile(uintptr(own), "pipe"), nil
}

func (s *streams) openTerminal(tty Tty, uid uint32) error {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/ptmx: %w", err)
	}
	s.terminal = os.NewFile(uintptr(master), "/dev/ptmx")
	s.stdin, s.stdout = s.terminal, s.terminal
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return fmt.Errorf("unlock the terminal: %w", err)
	}
	// Opened through the master, which needs neither a name nor a lookup in /dev/pts.
	slave, err := openPeer(master, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open the terminal: %w", err)
	}
	s.child = [3]int{slave, slave, slave}
	if err := setWindow(s.terminal, tty.Rows, tty.Cols); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return nil
	}
	// Like login: the terminal belongs to the user, so that the user's programs may open it by name.
	return unix.Fchown(slave, int(uid), -1)
}

func openPeer(master, flags int) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, uintptr(flags))
	if errno != 0 {
		return noDescriptor, errno
	}
	return int(fd), nil
}

// setWindow sets the terminal's size. 0 by 0 means that it is unknown.
func setWindow(terminal *os.File, rows, cols uint16) error {
	conn, err := terminal.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = conn.Control(func(fd uintptr) {
		result = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
	if err != nil {
		return err
	}
	return result
}

// waiting returns the number of bytes that can be read without blocking.
func waiting(file *os.File) int {
	count := 0
	conn, err := file.SyscallConn()
	if err != nil {
		return 0
	}
	err = conn.Control(func(fd uintptr) {
		if n, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ); err == nil {
			count = n
		}
	})
	if err != nil {
		return 0
	}
	return count
}

func (s *streams) closeChild() {
	previous := noDescriptor
	for i, fd := range s.child {
		if fd != noDescriptor && fd != previous {
			unix.Close(fd)
		}
		previous, s.child[i] = fd, noDescriptor
	}
}

func (s *streams) close() {
	for _, file := range []*os.File{s.stdin, s.stdout, s.stderr} {
		if file != nil {
			file.Close() // The terminal is two of the streams. Closing it again does nothing.
		}
	}
}
