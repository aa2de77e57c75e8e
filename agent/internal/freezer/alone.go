package freezer

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// tick is the most that a jump of the clock can take from heldMax.
const tick = time.Second

// linuxClock is CLOCK_MONOTONIC, on which Go's own timers run.
type linuxClock struct{}

func (linuxClock) Now() time.Time        { return time.Now() }
func (linuxClock) Sleep(d time.Duration) { time.Sleep(d) }
func (linuxClock) AfterFunc(d time.Duration, do func()) func() bool {
	return time.AfterFunc(d, do).Stop
}

// arm thaws the guest when the host has not done so in heldMax. That time is counted in ticks, each of which begins
// when the one before has ended, because CLOCK_MONOTONIC cannot be trusted in a guest that is restored: several
// releases of Firecracker (their issue 5809) move it on by the time for which the guest was saved. One timer for all
// of heldMax would then be due at once, and processes would run before the guest has its new identity.
// While memory is saved, only the host thaws.
func (f *Freezer) arm() {
	f.disarm()
	if f.untilThaw {
		return
	}
	f.await(f.turn, heldMax)
}

// await thaws after left, unless another turn has begun by then.
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
		f.Log.Printf("nobody thawed the guest in %s; it thaws by itself", heldMax)
		if err := f.release(); err != nil {
			f.Log.Printf("some of the guest's processes are still frozen: %v", err)
		}
	})
}

func (f *Freezer) disarm() {
	f.turn++ // A timer that waits for the lock has fired too late.
	if f.stop != nil {
		f.stop()
		f.stop = nil
	}
}

// recover takes over what an agent had frozen that is no more. What waits for the host alone stays frozen; the rest
// thaws, for nobody knows how long it was frozen already.
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
	if state != somethingHeld && state != heldUntilThaw {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = strings.FieldsFunc(names, func(r rune) bool { return r == '\n' })
	if state == heldUntilThaw {
		f.untilThaw = true
		f.frozen.Store(true)
		f.gate.shut()
		return
	}
	if err := f.release(); err != nil {
		f.Log.Printf("some of the guest's processes are still frozen: %v", err)
	}
}

// The first line of a record says what the others mean. All are as long, so that one is written over the other: to
// remove the file takes a guest that was just restored longer.
const (
	somethingHeld = "held"
	heldUntilThaw = "kept"
	nothingHeld   = "none"
)

func writeRecord(path string, held []string, untilThaw bool) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	state := somethingHeld
	if untilThaw {
		state = heldUntilThaw
	}
	return os.WriteFile(path, []byte(state+"\n"+strings.Join(held, "\n")+"\n"), 0o600)
}
