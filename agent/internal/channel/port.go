package channel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// PortName is the name of the virtio-serial port.
const PortName = "hearth.agent"

// The longest wait for an event. After it the port is checked anyway.
const portCheckMs = 1000

// Port is a virtio-serial port. It stays open for the life of the agent: connections use it in turn.
type Port struct {
	*os.File
	fd     int
	events int // An epoll for the port's edges: a host connects, leaves, or sends bytes.
}

// OpenPort finds the agent's port and opens it. It waits for the device until the deadline of ctx.
func OpenPort(ctx context.Context) (*Port, error) {
	for {
		path, err := findPort()
		if err == nil {
			return openPortAt(path)
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func findPort() (string, error) {
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return "", err
	}
	for _, file := range names {
		name, err := os.ReadFile(file)
		if err == nil && strings.TrimSpace(string(name)) == PortName {
			return "/dev/" + filepath.Base(filepath.Dir(file)), nil
		}
	}
	return "", fmt.Errorf("there is no virtio-serial port named %s", PortName)
}

func openPortAt(path string) (*Port, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	events, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	edge := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLET, Fd: int32(fd)}
	if err := unix.EpollCtl(events, unix.EPOLL_CTL_ADD, fd, &edge); err != nil {
		unix.Close(fd)
		unix.Close(events)
		return nil, fmt.Errorf("epoll on %s: %w", path, err)
	}
	return &Port{File: os.NewFile(uintptr(fd), path), fd: fd, events: events}, nil
}

// ServePort serves the port for as long as it exists, or until its last connection has ended.
func (s *Server) ServePort(p *Port) error {
	for first := true; ; first = false {
		if err := p.waitForHost(); err != nil {
			return err
		}
		if first {
			if err := breakOff(p); err != nil {
				return err
			}
		}
		// A read of a port without a host returns EOF at once, so Serve ends when the host leaves.
		err := s.Serve(p)
		if err == nil {
			return nil
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
}

// waitForHost blocks until a host has opened the other end of the port. The port reports POLLHUP while there is none,
// for which a level-triggered poll would return at once, again and again. So it waits for changes only.
func (p *Port) waitForHost() error {
	for {
		state := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		_, err := unix.Poll(state, 0)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("poll: %w", err)
		}
		if err == nil && state[0].Revents&unix.POLLHUP == 0 {
			return nil
		}
		var edges [4]unix.EpollEvent
		if _, err := unix.EpollWait(p.events, edges[:], portCheckMs); err != nil && err != unix.EINTR {
			return fmt.Errorf("epoll: %w", err)
		}
	}
}

// LocalAddr and RemoteAddr make the port a net.Conn.
func (p *Port) LocalAddr() net.Addr  { return &net.UnixAddr{Name: "guest", Net: "virtio"} }
func (p *Port) RemoteAddr() net.Addr { return &net.UnixAddr{Name: "host", Net: "virtio"} }
