package freezer

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// tick is the most that one jump of the clock can take from frozenMax.
const tick = time.Second

// linuxClock is CLOCK_MONOTONIC, which Go's timers use as well.
type linuxClock struct{}

func (linuxClock) Now() time.Time        { return time.Now() }
func (linuxClock) Sleep(d time.Duration) { time.Sleep(d) }
func (linuxClock) AfterFunc(d time.Duration, do func()) func() bool {
	return time.AfterFunc(d, do).Stop
}

// arm starts the timer that thaws the guest if the host has not done so within frozenMax. The time is counted in ticks,
// each of which begins when the one before has ended, because CLOCK_MONOTONIC cannot be trusted in a restored guest:
// several releases of Firecracker (its issue 5809) advance it by the time for which the snapshot was stored. A single
// timer for frozenMax would be due at once, and processes would run before the guest has its new identity. While memory
// is saved, only the host thaws.
func (f *Freezer) arm() {
	f.disarm()
	if f.untilThaw {
		return
	}
	f.await(f.turn, frozenMax)
}

// await thaws after the time left, unless another turn has begun by then.
func (f *Freezer) await(turn int, left time.Duration) {
	f.stop = f.clock.AfterFunc(min(tick, left), func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if turn != f.turn {
			return
		}
		if left > tick {
			f.await(turn, left-tick)
			return
		}
		f.Log.Printf("the host has not thawed the guest within %s; it thaws by itself", frozenMax)
		if err := f.release(); err != nil {
			f.Log.Printf("some of the guest's processes are still frozen: %v", err)
		}
	})
}

func (f *Freezer) disarm() {
	f.turn++ // Invalidates a timer that waits for the lock: it has fired too late.
	if f.stop != nil {
		f.stop()
		f.stop = nil
	}
}

// recover takes over what an earlier agent has frozen. What only the host may thaw stays frozen; the rest is thawed,
// because it is unknown how long it has been frozen.
func (f *Freezer) recover() {
	text, err := os.ReadFile(f.record)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		f.Log.Printf("what is frozen is not known: %v", err)
		return
	}
	state, names, _ := strings.Cut(string(text), "\n")
	if state != stateFrozen && state != stateUntilThaw {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frozenCgroups = strings.FieldsFunc(names, func(r rune) bool { return r == '\n' })
	if state == stateUntilThaw {
		f.untilThaw = true
		f.frozen.Store(true)
		f.gate.shut()
		return
	}
	if err := f.release(); err != nil {
		f.Log.Printf("some of the guest's processes are still frozen: %v", err)
	}
}

// The first line of a record tells who may thaw the cgroups in the others. All first lines have the same length, so
// that one can be overwritten by another: removing the file takes longer in a guest that was just restored.
const (
	stateFrozen    = "held"
	stateUntilThaw = "kept"
	stateThawed    = "none"
)

func writeRecord(path string, names []string, untilThaw bool) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	state := stateFrozen
	if untilThaw {
		state = stateUntilThaw
	}
	return os.WriteFile(path, []byte(state+"\n"+strings.Join(names, "\n")+"\n"), 0o600)
}
