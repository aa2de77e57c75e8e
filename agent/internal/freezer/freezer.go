// Package freezer freezes the processes of the guest while its memory and disks are saved, and thaws them.
//
//	Freeze ─ no more starts ─ cgroup.freeze=1 ─ all are frozen ─┐
//	                                                            ├─► Thaw (host, end of Configure, Shutdown)
//	               30 s without a host, unless memory is saved ─┘
//
// A restored guest continues with everything frozen, and gets its new identity before the first instruction of the
// user runs. It cannot find out by itself that it was restored: a copy has the connections, timers and clocks of the
// guest that was saved. So while memory is saved, only the host thaws.
package freezer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"hearth.dev/agent/internal/fault"
	"hearth.dev/agent/internal/smallfile"
)

const (
	defaultTimeout = 2 * time.Second
	// A host that is alive thaws long before. One that died never does.
	frozenMax = 30 * time.Second
	// The first check mostly finds everything frozen. Later checks must leave the CPU to the last process that has to
	// freeze.
	firstPause = 100 * time.Microsecond
	longPause  = 2 * time.Millisecond
)

// Clock is monotonic time. Tests have their own.
type Clock interface {
	Now() time.Time
	Sleep(d time.Duration)
	// AfterFunc returns a func that stops the timer.
	AfterFunc(d time.Duration, do func()) (stop func() bool)
}

// Freezer freezes and thaws the guest.
type Freezer struct {
	Log    *log.Logger
	tree   cgroups
	keep   func() ([]string, error)
	clock  Clock
	sync   func()
	tidy   func() // Collects the agent's garbage.
	seed   string // The file that seeds the kernel's generator at the next boot, which would be the same in each copy.
	record string // The file that lists what is frozen, for an agent that is started again meanwhile.

	gate          gate
	frozen        atomic.Bool
	mu            sync.Mutex // Serializes Freeze and Thaw, and guards the fields below.
	frozenCgroups []string
	// True if only the host may thaw: the guest may be a restored copy that does not have its own identity yet.
	untilThaw bool
	stop      func() bool
	turn      int // The number of the valid timer.
}

// New makes the freezer of this guest, and the cgroup for execs. It thaws what an agent that died had frozen, unless
// memory was being saved.
func New(logger *log.Logger) *Freezer {
	f := &Freezer{
		Log:    logger,
		tree:   "/sys/fs/cgroup",
		keep:   agentAndInit,
		clock:  linuxClock{},
		sync:   unix.Sync,
		tidy:   runtime.GC,
		seed:   "/var/lib/systemd/random-seed",
		record: "/run/hearth/frozen",
	}
	if execs := f.ExecCgroup(); execs != nil {
		execs.Close()
	}
	f.recover()
	return f
}

func agentAndInit() ([]string, error) {
	own, err := cgroupOf("self")
	if err != nil {
		return nil, err
	}
	init, err := cgroupOf("1")
	return []string{own, init}, err
}

// Enter waits until the guest is thawed, and prevents freezing until Leave.
func (f *Freezer) Enter(ctx context.Context) error { return f.gate.enter(ctx) }

// Leave allows freezing again.
func (f *Freezer) Leave() { f.gate.leave() }

// ExecCgroup opens the cgroup for programs of the host; nil without cgroup v2.
func (f *Freezer) ExecCgroup() *os.File {
	if !f.tree.mounted() {
		return nil
	}
	dir, err := f.tree.openExecs()
	if err != nil {
		f.Log.Printf("the cgroup %s cannot be opened, so commands cannot be frozen: %v", execCgroup, err)
		return nil
	}
	return dir
}

// Frozen tells whether the guest is frozen now.
func (f *Freezer) Frozen() bool { return f.frozen.Load() }

// Options are those of Freeze.
type Options struct {
	Flush     bool          // Write dirty pages to the disks first.
	Timeout   time.Duration // The time for all processes to freeze; 0 is 2 s.
	UntilThaw bool          // Memory is saved: only the host thaws.
}

// Freeze returns when all processes are frozen, or fails and freezes none. Calling it again restarts the 30 s.
func (f *Freezer) Freeze(ctx context.Context, options Options) (warnings []string, err error) {
	timeout := options.Timeout
	if options.Flush {
		f.sync()
	}
	// Otherwise each guest that is restored from here would collect it, on a CPU that has nothing translated yet.
	f.tidy()
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	alone := !f.untilThaw
	f.untilThaw = f.untilThaw || options.UntilThaw
	deadline := f.clock.Now().Add(timeout)
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err = f.gate.close(limited)
	if err == nil {
		err = f.freezeAll(ctx, deadline)
	}
	if err == nil && alone && f.untilThaw {
		err = writeRecord(f.record, f.frozenCgroups, f.untilThaw)
	}
	if err != nil {
		return nil, fault.Because(errors.Join(err, f.release()), fault.AgentFailed,
			"the guest's processes could not be frozen within %s, and continue", timeout)
	}
	f.frozen.Store(true)
	f.arm()
	if err := os.Remove(f.seed); err != nil && !errors.Is(err, fs.ErrNotExist) {
		warnings = append(warnings, fmt.Sprintf("The stored seed of the random generator could not be removed: %v", err))
	}
	return warnings, nil
}

// Thaw lets all processes run again.
func (f *Freezer) Thaw() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.release(); err != nil {
		return fault.Because(err, fault.AgentFailed, "some of the guest's processes are still frozen")
	}
	return nil
}

// Renew restarts the 30 s if the guest is frozen, because giving it its identity may take a while. A restored guest
// then waits for the host without a limit.
func (f *Freezer) Renew(restored bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.frozen.Load() {
		return
	}
	if restored && !f.untilThaw {
		f.untilThaw = true
		if err := writeRecord(f.record, f.frozenCgroups, f.untilThaw); err != nil {
			f.Log.Printf("%v", err)
		}
	}
	f.arm()
}

// freezeAll repeats until it finds no new cgroups, because processes that still run may make some. It asks all cgroups
// before it waits for one, so that they freeze concurrently.
func (f *Freezer) freezeAll(ctx context.Context, deadline time.Time) error {
	if !f.tree.mounted() {
		return fmt.Errorf("there is no cgroup v2 at %s", f.tree)
	}
	for {
		found, err := f.findNew()
		if err != nil || len(found) == 0 {
			return err
		}
		f.frozenCgroups = append(f.frozenCgroups, found...)
		if err := writeRecord(f.record, f.frozenCgroups, f.untilThaw); err != nil {
			return err
		}
		for _, name := range found {
			if err := f.tree.setFrozen(name, true); err != nil {
				return err
			}
		}
		if err := f.awaitFrozen(ctx, found, deadline); err != nil {
			return err
		}
		// A program outside of the frozen cgroups may make new ones as fast as they are found.
		if !f.clock.Now().Before(deadline) {
			return errors.New("new cgroups are made all the time")
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// findNew skips what was frozen in the guest by others: it must not be thawed with the rest.
func (f *Freezer) findNew() ([]string, error) {
	keep, err := f.keep()
	if err != nil {
		return nil, err
	}
	all, err := f.tree.outside(keep)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, name := range all {
		if slices.Contains(f.frozenCgroups, name) {
			continue
		}
		set, err := f.tree.isSet(name)
		if err != nil {
			return nil, err
		}
		if !set {
			found = append(found, name)
		}
	}
	return found, nil
}

func (f *Freezer) awaitFrozen(ctx context.Context, names []string, deadline time.Time) error {
	pause := firstPause
	for {
		var moving []string
		for _, name := range names {
			frozen, err := f.tree.isFrozen(name)
			if err != nil {
				return err
			}
			if !frozen {
				moving = append(moving, name)
			}
		}
		if len(moving) == 0 {
			return nil
		}
		if !f.clock.Now().Before(deadline) {
			return fmt.Errorf("something in %s does not freeze", strings.Join(moving, ", "))
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		f.clock.Sleep(pause)
		pause = min(2*pause, longPause)
		names = moving
	}
}

// release thaws what it can, and retries later what it could not.
func (f *Freezer) release() error {
	var left []string
	var failures []error
	for _, name := range f.frozenCgroups {
		if err := f.tree.setFrozen(name, false); err != nil {
			left = append(left, name)
			failures = append(failures, err)
		}
	}
	f.frozenCgroups = left
	f.untilThaw = false // The host has asked for the thaw, or nothing was frozen for a snapshot.
	if len(left) > 0 {
		f.frozen.Store(true)
		f.arm()
		return errors.Join(failures...)
	}
	f.disarm()
	f.frozen.Store(false)
	f.gate.open()
	if err := smallfile.Set(f.record, stateThawed); err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.Log.Printf("%v", err)
	}
	return nil
}
