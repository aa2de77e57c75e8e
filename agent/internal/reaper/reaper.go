// Package reaper starts processes and collects every one that ends.
//
// PID 1 inherits orphans and has to wait for them, but a plain wait for "any child" would steal the exit
// status that a starter waits for. So one reaper waits for all children and hands the statuses out:
//
//	Start ──fork, exec, register──┐ (under one lock: a child that ends at once is registered first)
//	SIGCHLD ──wait4(-1) until none┴─► registered: Done is closed · orphan: forgotten
//
// Nothing else in the agent may wait for a process, which is why os/exec is used nowhere.
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

// Reaper owns the children of this process.
type Reaper struct {
	mu      sync.Mutex
	owned   map[int]*Process
	protect bool
}

// Process is a child that was started by Start.
type Process struct {
	Pid    int
	reaper *Reaper
	done   chan struct{}
	status syscall.WaitStatus
	ended  bool // Guarded by reaper.mu; from then on the pid may belong to somebody else.
}

// New makes a reaper and collects children until ctx ends. With protect, the agent is kept from the kernel's
// out-of-memory killer, and the processes that it starts are not.
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

// Start executes a program. An error is the system's own, of fork, chdir or exec.
func (r *Reaper) Start(path string, argv []string, attr *syscall.ProcAttr) (*Process, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.protect {
		// The score is inherited, and a child that forks at once would pass it on before anyone could
		// reset it from outside. So the agent gives its own up for the moment of the fork.
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

// Status is how the process ended. Only after Done.
func (p *Process) Status() syscall.WaitStatus { return p.status }

// SignalGroup sends a signal to the process group that the process leads. A process that was reaped gets
// nothing: its number may be another's by now.
func (p *Process) SignalGroup(sig syscall.Signal) error {
	p.reaper.mu.Lock()
	defer p.reaper.mu.Unlock()
	if p.ended {
		return unix.ESRCH
	}
	return unix.Kill(-p.Pid, sig)
}

// Childless says whether no child is left, ended or not.
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
			continue // An orphan that came to PID 1.
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

// setOOMScore does what it can: without the privilege, the agent is as killable as everything else.
func setOOMScore(score string) {
	_ = smallfile.Set("/proc/self/oom_score_adj", score)
}
