// Package freezer holds the processes of the guest still while its memory and disks are saved, and lets them go on.
//
//	Freeze ─ no more starts ─ cgroup.freeze=1 ─ all stand still ─┐
//	                                                             ├─► Thaw (host, end of Configure, Shutdown)
//	                30 s without a host, unless memory is saved ─┘
//
// A restored guest continues in the middle, with everything frozen, and is given its new identity before the
// first of the user's instructions runs. It cannot tell by itself that it was restored: a copy has the connections,
// timers and clocks of the guest that was saved. So while memory is saved, only the host thaws.
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
	// A host that wants the guest back does so long before. One that died never does.
	heldMax = 30 * time.Second
	// The first look is the one that finds everything frozen, mostly; later ones must not keep the CPU busy that
	// the last process needs to get there.
	firstPause = 100 * time.Microsecond
	longPause  = 2 * time.Millisecond
)

// Clock is monotonic time. Tests give another one.
type Clock interface {
	Now() time.Time
	Sleep(d time.Duration)
	// AfterFunc gives a func that stops the timer.
	AfterFunc(d time.Duration, do func()) (stop func() bool)
}

// Freezer owns what is held in the guest.
type Freezer struct {
	Log    *log.Logger
	tree   cgroups
	keep   func() ([]string, error)
	clock  Clock
	sync   func()
	tidy   func() // The agent's own memory.
	seed   string // What the next boot would seed the kernel's generator with: the same in each copy.
	record string // Names what is held, for an agent that is started again meanwhile.

	gate   gate
	frozen atomic.Bool
	mu     sync.Mutex // One Freeze or Thaw at a time. Guards what follows.
	held   []string
	// Nobody but the host may thaw: what runs next may be a restored copy without an identity of its own.
	untilThaw bool
	stop      func() bool
	turn      int // Which timer counts.
}

// New makes the freezer of this guest, with the cgroup for execs. What an agent that died had held goes on.
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

// Enter waits until the guest is not held, and keeps it from being held until Leave.
func (f *Freezer) Enter(ctx context.Context) error { return f.gate.enter(ctx) }

// Leave ends what Enter began.
func (f *Freezer) Leave() { f.gate.leave() }

// ExecCgroup opens the cgroup that a program is to be started in; nil without cgroup v2.
func (f *Freezer) ExecCgroup() *os.File {
	if !f.tree.mounted() {
		return nil
	}
	folder, err := f.tree.openExecs()
	if err != nil {
		f.Log.Printf("the cgroup %s cannot be opened, so that commands cannot be held: %v", execCgroup, err)
		return nil
	}
	return folder
}

// Frozen says whether the guest is held now.
func (f *Freezer) Frozen() bool { return f.frozen.Load() }

// Options of a Freeze.
type Options struct {
	Flush     bool          // Write what programs have written to the disks first.
	Timeout   time.Duration // For all processes to be frozen; 0 is 2 s.
	UntilThaw bool          // Memory is saved: only the host thaws.
}

// Freeze returns when all processes are frozen, or fails and freezes nothing. Doing it again begins the 30 s anew.
func (f *Freezer) Freeze(ctx context.Context, options Options) (warnings []string, err error) {
	timeout := options.Timeout
	if options.Flush {
		f.sync()
	}
	// Or else each guest that is restored from here would do it, with a CPU that has nothing translated yet.
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
		err = f.holdAll(ctx, deadline)
	}
	if err == nil && alone && f.untilThaw {
		err = writeRecord(f.record, f.held, f.untilThaw)
	}
	if err != nil {
		return nil, fault.Because(errors.Join(err, f.release()), fault.AgentFailed,
			"the guest's processes could not be held within %s, and go on", timeout)
	}
	f.frozen.Store(true)
	f.arm()
	if err := os.Remove(f.seed); err != nil && !errors.Is(err, fs.ErrNotExist) {
		warnings = append(warnings, fmt.Sprintf("The saved seed of the random generator is still there: %v", err))
	}
	return warnings, nil
}

// Thaw lets everything go on.
func (f *Freezer) Thaw() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.release(); err != nil {
		return fault.Because(err, fault.AgentFailed, "some of the guest's processes are still held")
	}
	return nil
}

// Renew begins the 30 s anew, if the guest is frozen: who gives it its identity may take a while. A restored guest
// then waits for the host without an end.
func (f *Freezer) Renew(restored bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.frozen.Load() {
		return
	}
	if restored && !f.untilThaw {
		f.untilThaw = true
		if err := writeRecord(f.record, f.held, f.untilThaw); err != nil {
			f.Log.Printf("%v", err)
		}
	}
	f.arm()
}

// holdAll goes on until it finds nothing new: what runs while it looks may make cgroups. All are told before one
// is waited for, so that they come to a stop side by side.
func (f *Freezer) holdAll(ctx context.Context, deadline time.Time) error {
	if !f.tree.mounted() {
		return fmt.Errorf("there is no cgroup v2 at %s", f.tree)
	}
	for {
		found, err := f.findNew()
		if err != nil || len(found) == 0 {
			return err
		}
		f.held = append(f.held, found...)
		if err := writeRecord(f.record, f.held, f.untilThaw); err != nil {
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
		// A program outside of all that is frozen may make cgroups as fast as they are found.
		if !f.clock.Now().Before(deadline) {
			return errors.New("new cgroups are made all the time")
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// findNew leaves out what somebody else in the guest has frozen: it must not go on with the rest.
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
		if slices.Contains(f.held, name) {
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
			return fmt.Errorf("something in %s does not stand still", strings.Join(moving, ", "))
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		f.clock.Sleep(pause)
		pause = min(2*pause, longPause)
		names = moving
	}
}

// release undoes what it can, and tries again later what it could not.
func (f *Freezer) release() error {
	var left []string
	var failures []error
	for _, name := range f.held {
		if err := f.tree.setFrozen(name, false); err != nil {
			left = append(left, name)
			failures = append(failures, err)
		}
	}
	f.held = left
	f.untilThaw = false // The host has asked for it, or nothing was frozen for it to save.
	if len(left) > 0 {
		f.frozen.Store(true)
		f.arm()
		return errors.Join(failures...)
	}
	f.disarm()
	f.frozen.Store(false)
	f.gate.open()
	if err := smallfile.Set(f.record, nothingHeld); err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.Log.Printf("%v", err)
	}
	return nil
}
