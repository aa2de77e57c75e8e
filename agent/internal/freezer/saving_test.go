package freezer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestWhileMemoryIsSavedNoAgentThawsTheGuestByItself(t *testing.T) {
	for name, begin := range map[string]func(*Freezer) error{
		"frozen for a save": func(f *Freezer) error {
			_, err := f.Freeze(context.Background(), Options{UntilThaw: true})
			return err
		},
		"frozen for a save after another freeze": func(f *Freezer) error {
			_, first := f.Freeze(context.Background(), Options{})
			_, second := f.Freeze(context.Background(), Options{UntilThaw: true})
			_, third := f.Freeze(context.Background(), Options{})
			return errors.Join(first, second, third)
		},
		"found to be restored": func(f *Freezer) error {
			_, err := f.Freeze(context.Background(), Options{})
			f.Renew(true)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, k := newFreezer(t)
			if err := begin(f); err != nil {
				t.Fatal(err)
			}
			k.advance(100 * frozenMax)
			next := k.newFreezer() // The next agent, in place of one that died.
			next.record = f.record
			next.recover()
			k.advance(100 * frozenMax)
			if len(k.told()) == 0 || !next.Frozen() {
				t.Fatalf("it thawed: %v", k.told())
			}
			soon, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			defer cancel()
			if next.Enter(soon) == nil {
				t.Error("a program may be started in a guest that is frozen")
			}
			if err := next.Thaw(); err != nil || len(k.told()) != 0 || next.Frozen() {
				t.Fatalf("the host cannot thaw it: %v, %v", k.told(), err)
			}
			// The next freeze is not for a snapshot.
			next.mustFreeze(t)
			k.advance(frozenMax)
			if len(k.told()) != 0 {
				t.Error("it stays frozen although nothing is saved")
			}
		})
	}
}

func TestAGuestThatMakesCgroupsAllTheTimeDoesNotDelayTheAgentForever(t *testing.T) {
	f, k := newFreezer(t)
	made := 0
	k.onSleep = func() {
		made++
		k.now = k.now.Add(50 * time.Millisecond)
		k.add(fmt.Sprintf("/user.slice/new-%d", made))
		k.add(fmt.Sprintf("/new-%d", made))
	}
	_, err := f.Freeze(context.Background(), Options{Timeout: time.Second})
	if err == nil || !strings.Contains(err.Error(), "new cgroups are made all the time") {
		t.Errorf("got %v", err)
	}
	if len(k.told()) != 0 || f.Frozen() {
		t.Errorf("some stay frozen: %v", k.told())
	}
}
