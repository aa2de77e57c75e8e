// Package reaper starts processes and collects every one that ends.
//
// PID 1 inherits orphaned processes and has to wait for them, but waiting for "any child" would steal the exit
// status that a starter waits for. So one reaper waits for all children and hands the statuses out:
//
//	Start ──fork, exec, register──┐ (under one lock: a child that ends at once is registered first)
//	SIGCHLD ──wait4(-1) until none┴─► registered: Done is closed · others: dropped
//
// No other code of the agent may wait for a process, which is why os/exec is not used.
package reaper

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"hearth.dev/agent/internal/smallfile"
)

// Reaper collects the children of this process.
type Reaper struct {
	mu      sync.Mutex
	owned   map[int]*Process
	protect bool
}

// Process is a child that Start has started.
type Process struct {
	Pid    int
	reaper *Reaper
	done   chan struct{}
	status syscall.WaitStatus
	ended  bool // Guarded by reaper.mu. Once true, the pid may belong to another process.
}

// New makes a reaper and collects children until ctx ends. With protect, the agent is exempt from the kernel's
// out-of-memory killer, but not the processes that it starts.
func New(ctx context.Context, protect bool) *Reaper {
	r := &Reaper{owned: map[int]*Process{}, protect: protect}
	if protect {
		setOOMScore(oomProtected)
	}
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	go func() {
		defer signal.Stop(children)
		for {
			select {
			case <-ctx.Done():
				return
			case <-children:
				r.sweep()
			}
		}
	}()
	return r
}

// Start executes a program. Its errors are those of fork, chdir or exec.
func (r *Reaper) Start(path string, argv []string, attr *syscall.ProcAttr) (*Process, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.protect {
		// The score is inherited, and a child that forks at once would pass it on before it could be reset from
		// outside. So the agent resets its own score for the moment of the fork.
		setOOMScore(oomNormal)
		defer setOOMScore(oomProtected)
	}
	pid, err := syscall.ForkExec(path, argv, attr)
	if err != nil {
		return nil, err
	}
	p := &Process{Pid: pid, reaper: r, done: make(chan struct{})}
	r.owned[pid] = p
	return p, nil
}

// Done is closed when the process has ended and its status is known.
func (p *Process) Done() <-chan struct{} { return p.done }

// Status returns how the process ended. Valid only after Done.
func (p *Process) Status() syscall.WaitStatus { return p.status }

// SignalGroup sends a signal to the process group that the process leads. After the process has been reaped it does
// nothing, because the pid may belong to another process.
func (p *Process) SignalGroup(sig syscall.Signal) error {
	p.reaper.mu.Lock()
	defer p.reaper.mu.Unlock()
	if p.ended {
		return unix.ESRCH
	}
	return unix.Kill(-p.Pid, sig)
}

// Childless tells whether no child is left, neither running nor a zombie.
func (r *Reaper) Childless() bool {
	r.sweep()
	var info unix.Siginfo
	return unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil) == unix.ECHILD
}

func (r *Reaper) sweep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		p := r.owned[pid]
		if p == nil {
			continue // An orphan that PID 1 inherited.
		}
		delete(r.owned, pid)
		p.status, p.ended = status, true
		close(p.done)
	}
}

const (
	oomProtected = "-1000"
	oomNormal    = "0"
)

// setOOMScore ignores errors: without the privilege, the agent can be killed like any other process.
func setOOMScore(score string) {
	_ = smallfile.Set("/proc/self/oom_score_adj", score)
}
