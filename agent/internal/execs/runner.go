package execs

import (
	"os"
	"sync"
	"time"

	"hearth.dev/agent/internal/accounts"
	"hearth.dev/agent/internal/fault"
	"hearth.dev/agent/internal/reaper"
)

// Runner starts commands and tracks the running ones.
type Runner struct {
	Settings Settings
	// Cgroup opens the cgroup that commands start in. If it is nil, or returns nil, they start in the agent's.
	Cgroup   func() *os.File
	reaper   *reaper.Reaper
	accounts accounts.Files

	mu      sync.Mutex
	running map[string]*Command // Nil while the command is being started.
	unnamed int
}

// NewRunner makes a runner that looks users up in the given files.
func NewRunner(r *reaper.Reaper, files accounts.Files) *Runner {
	return &Runner{reaper: r, accounts: files, running: map[string]*Command{}}
}

// Start runs a command. The runner removes it from its table once its main process has ended.
func (r *Runner) Start(spec Spec) (*Command, error) {
	p, err := makePlan(spec, r.Settings.Get(), r.accounts)
	if err != nil {
		return nil, err
	}
	if spec.Detach {
		spec.Tty = nil // It would have no reader, and a full terminal blocks its writers forever.
	}
	if err := r.reserve(spec.ID); err != nil {
		return nil, err
	}
	c := &Command{ID: spec.ID}
	if c.process, c.streams, err = start(r.reaper, p, spec, r.openCgroup()); err != nil {
		r.forget(spec.ID)
		return nil, err
	}
	r.publish(c)
	c.armTimeout(time.Duration(spec.TimeoutMs) * time.Millisecond)
	go func() {
		<-c.Done()
		r.forget(c.ID)
	}()
	return c, nil
}

func (r *Runner) openCgroup() *os.File {
	if r.Cgroup == nil {
		return nil
	}
	return r.Cgroup()
}

func (r *Runner) reserve(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if id == "" {
		r.unnamed++
		return nil
	}
	if _, taken := r.running[id]; taken {
		return fault.New(fault.InputInvalid, "a command with the id %q runs already", id)
	}
	r.running[id] = nil
	return nil
}

func (r *Runner) publish(c *Command) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.ID != "" {
		r.running[c.ID] = c
	}
}

func (r *Runner) forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if id == "" {
		r.unnamed--
		return
	}
	delete(r.running, id)
}

// Find returns the running command with an id.
func (r *Runner) Find(id string) (*Command, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.running[id]
	return c, c != nil
}

// Count returns the number of running commands.
func (r *Runner) Count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.running) + r.unnamed
}

// HangUpTerminals sends SIGHUP to every command on a terminal: interactive shells obey it, and ignore SIGTERM.
func (r *Runner) HangUpTerminals() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.running {
		if c != nil {
			c.HangUp()
		}
	}
}

// Home returns the home directory of the default user.
func (r *Runner) Home() (string, error) {
	account, err := r.accounts.Find(r.Settings.Get().User)
	return account.Home, err
}

// KillAll kills every command that has an id.
func (r *Runner) KillAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.running {
		if c != nil {
			c.Kill()
		}
	}
}

// Reaper returns the runner's reaper.
func (r *Runner) Reaper() *reaper.Reaper { return r.reaper }
