package freezer

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// linuxClock is CLOCK_MONOTONIC, on which Go's own timers run.
type linuxClock struct{}

func (linuxClock) Now() time.Time        { return time.Now() }
func (linuxClock) Sleep(d time.Duration) { time.Sleep(d) }
func (linuxClock) AfterFunc(d time.Duration, do func()) func() bool {
	return time.AfterFunc(d, do).Stop
}

// arm thaws the guest when nobody else has in time.
func (f *Freezer) arm() {
	f.disarm()
	turn := f.turn
	f.stop = f.clock.AfterFunc(heldMax, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if turn != f.turn {
			return
		}
		f.Log.Printf("nobody thawed the guest in %s; it goes on by itself", heldMax)
		if err := f.release(); err != nil {
			f.Log.Printf("some of the guest's processes are still held: %v", err)
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

// recover lets go on what an agent held that is no more. Nobody knows how long it was held already.
func (f *Freezer) recover() {
	text, err := os.ReadFile(f.record)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		f.Log.Printf("what is held is not known: %v", err)
		return
	}
	held, ok := strings.CutPrefix(string(text), somethingHeld)
	if !ok {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = strings.FieldsFunc(held, func(r rune) bool { return r == '\n' })
	if err := f.release(); err != nil {
		f.Log.Printf("some of the guest's processes are still held: %v", err)
	}
}

// The first line of a record says whether the others count. Both are as long, so that one is written over the other:
// to remove the file takes a guest that goes on longer.
const (
	somethingHeld = "held\n"
	nothingHeld   = "none\n"
)

func writeRecord(path string, held []string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(somethingHeld+strings.Join(held, "\n")+"\n"), 0o600)
}
