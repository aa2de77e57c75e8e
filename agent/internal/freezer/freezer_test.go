package freezer

import (
	"context"
	"io"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hearth.dev/agent/internal/fault"
)

// fakeKernel is a clock, and cgroups in a directory that do what they were asked whenever the freezer pauses.
type fakeKernel struct {
	t       *testing.T
	root    string
	now     time.Time
	sleeps  int
	timers  []*fakeTimer
	stuck   string // A cgroup that never freezes.
	onSleep func() // Called at each pause, for something that happens in the guest meanwhile.
}

type fakeTimer struct {
	at time.Time
	do func()
}

func (k *fakeKernel) Now() time.Time { return k.now }

func (k *fakeKernel) Sleep(d time.Duration) {
	k.sleeps++
	k.now = k.now.Add(d)
	k.work()
	if k.onSleep != nil {
		k.onSleep()
	}
}

func (k *fakeKernel) AfterFunc(d time.Duration, do func()) func() bool {
	timer := &fakeTimer{at: k.now.Add(d), do: do}
	k.timers = append(k.timers, timer)
	return func() bool {
		at := slices.Index(k.timers, timer)
		if at >= 0 {
			k.timers = slices.Delete(k.timers, at, at+1)
		}
		return at >= 0
	}
}

// advance lets time pass, one timer after the other.
func (k *fakeKernel) advance(d time.Duration) {
	for end := k.now.Add(d); k.now.Before(end); {
		next := end
		for _, timer := range k.timers {
			if timer.at.Before(next) {
				next = timer.at
			}
		}
		k.jump(next.Sub(k.now))
	}
}

// jump advances the clock at once, as a VMM may at a restore: what is due by then is due now.
func (k *fakeKernel) jump(d time.Duration) {
	k.now = k.now.Add(d)
	for _, timer := range slices.Clone(k.timers) {
		if !timer.at.After(k.now) {
			k.timers = slices.DeleteFunc(k.timers, func(t *fakeTimer) bool { return t == timer })
			timer.do()
		}
	}
}

func (k *fakeKernel) add(name string) {
	k.t.Helper()
	if err := os.MkdirAll(k.root+name, 0o755); err != nil {
		k.t.Fatal(err)
	}
	k.write(name, "cgroup.freeze", "0\n")
	k.write(name, "cgroup.events", "populated 1\nfrozen 0\n")
}

func (k *fakeKernel) write(name, file, text string) {
	k.t.Helper()
	if err := os.WriteFile(filepath.Join(k.root+name, file), []byte(text), 0o644); err != nil {
		k.t.Fatal(err)
	}
}

// told lists the cgroups that were asked to freeze.
func (k *fakeKernel) told() []string {
	names := []string{}
	_ = filepath.WalkDir(k.root, func(path string, entry os.DirEntry, err error) error {
		text, _ := os.ReadFile(filepath.Join(path, "cgroup.freeze"))
		if err == nil && entry.IsDir() && strings.HasPrefix(string(text), "1") {
			names = append(names, strings.TrimPrefix(path, k.root))
		}
		return err
	})
	return names
}

func (k *fakeKernel) work() {
	for _, name := range k.told() {
		if name != k.stuck {
			k.write(name, "cgroup.events", "populated 1\nfrozen 1\n")
		}
	}
}

// newFreezer is the freezer of a guest with systemd.
func newFreezer(t *testing.T) (*Freezer, *fakeKernel) {
	t.Helper()
	k := &fakeKernel{t: t, root: t.TempDir(), now: time.Unix(1000, 0)}
	k.write("", "cgroup.controllers", "\n")
	for _, name := range []string{
		"/init.scope", "/system.slice", "/system.slice/hearth-agent.service", "/system.slice/web.service",
		"/system.slice/web.service/worker", "/user.slice", "/user.slice/init.scope", "/hearth.exec",
	} {
		k.add(name)
	}
	return k.newFreezer(), k
}

func (k *fakeKernel) newFreezer() *Freezer {
	state := k.t.TempDir()
	return &Freezer{
		Log:    log.New(io.Discard, "", 0),
		tree:   cgroups(k.root),
		keep:   func() ([]string, error) { return []string{"/system.slice/hearth-agent.service", "/init.scope"}, nil },
		clock:  k,
		sync:   func() {},
		tidy:   func() {},
		seed:   filepath.Join(state, "random-seed"),
		record: filepath.Join(state, "hearth/frozen"),
	}
}

func (f *Freezer) mustFreeze(t *testing.T) {
	t.Helper()
	if warnings, err := f.Freeze(context.Background(), Options{}); err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
}

var everything = []string{"/hearth.exec", "/system.slice/web.service", "/user.slice"}

func TestAllButTheAgentAndInitAreFrozenUntilTheThaw(t *testing.T) {
	f, k := newFreezer(t)
	for range 2 {
		f.mustFreeze(t)
		if got := k.told(); !slices.Equal(got, everything) || !f.Frozen() {
			t.Errorf("got %v, frozen: %t", got, f.Frozen())
		}
	}
	for range 2 {
		if err := f.Thaw(); err != nil {
			t.Fatal(err)
		}
		if got := k.told(); len(got) != 0 || f.Frozen() || len(k.timers) != 0 {
			t.Errorf("got %v, frozen: %t, %d timers", got, f.Frozen(), len(k.timers))
		}
	}
}

func TestAnAgentThatIsInitFreezesEveryTopmostCgroup(t *testing.T) {
	f, k := newFreezer(t)
	f.keep = func() ([]string, error) { return []string{"/", "/"}, nil }
	f.mustFreeze(t)
	want := []string{"/hearth.exec", "/init.scope", "/system.slice", "/user.slice"}
	if got := k.told(); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestACgroupThatFreezesAtOnceIsNotWaitedFor(t *testing.T) {
	f, k := newFreezer(t)
	for _, name := range everything {
		k.write(name, "cgroup.events", "populated 0\nfrozen 1\n")
	}
	f.mustFreeze(t)
	if k.sleeps != 0 {
		t.Errorf("slept %d times", k.sleeps)
	}
}

func TestACgroupThatIsMadeMeanwhileIsFrozenToo(t *testing.T) {
	f, k := newFreezer(t)
	k.onSleep = func() {
		if k.onSleep = nil; k.sleeps == 1 {
			k.add("/late.slice")
		}
	}
	f.mustFreeze(t)
	if got := k.told(); !slices.Contains(got, "/late.slice") {
		t.Errorf("got %v", got)
	}
}

func TestACgroupThatDoesNotFreezeIsNamedAndAllAreThawed(t *testing.T) {
	f, k := newFreezer(t)
	k.stuck = "/user.slice"
	began := k.now
	_, err := f.Freeze(context.Background(), Options{Timeout: time.Second})
	want := "the guest's processes could not be frozen within 1s, and continue: something in /user.slice does not freeze"
	if err == nil || err.Error() != want || fault.CodeOf(err) != fault.AgentFailed {
		t.Errorf("got %v", err)
	}
	if got := k.told(); len(got) != 0 || f.Frozen() || len(k.timers) != 0 {
		t.Errorf("got %v, frozen: %t", got, f.Frozen())
	}
	if waited := k.now.Sub(began); waited > time.Second+longPause {
		t.Errorf("waited %s", waited)
	}
	if err := f.Enter(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestWithoutCgroupV2NothingIsFrozenAndTheErrorSaysSo(t *testing.T) {
	f, k := newFreezer(t)
	if err := os.Remove(k.root + "/cgroup.controllers"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Freeze(context.Background(), Options{}); err == nil || !strings.Contains(err.Error(), "there is no cgroup v2 at") {
		t.Errorf("got %v", err)
	}
	if dir := f.ExecCgroup(); dir != nil {
		t.Error("there is a cgroup for commands")
	}
}

func TestTheGuestThawsByItselfWhenItsHostDied(t *testing.T) {
	f, k := newFreezer(t)
	f.mustFreeze(t)
	k.advance(frozenMax - time.Second)
	f.Renew(false)
	k.advance(frozenMax - time.Second)
	if !f.Frozen() || len(k.told()) == 0 {
		t.Error("it went on too early")
	}
	k.advance(time.Second)
	if got := k.told(); len(got) != 0 || f.Frozen() {
		t.Errorf("got %v, frozen: %t", got, f.Frozen())
	}
	if f.Renew(false); len(k.timers) != 0 {
		t.Error("a timer runs for a guest that is not frozen")
	}
}

func TestAClockThatJumpsAtARestoreDoesNotThawTheGuest(t *testing.T) {
	f, k := newFreezer(t)
	f.mustFreeze(t)
	k.advance(2 * time.Second)
	k.jump(24 * time.Hour) // The snapshot was taken before this, and is restored the next day.
	if got := k.told(); !slices.Equal(got, everything) || !f.Frozen() {
		t.Fatalf("processes run before the guest has its identity: %v are frozen", got)
	}
	f.Renew(false) // Called when the host gives the guest its identity.
	k.jump(24 * time.Hour)
	k.advance(frozenMax - 2*tick)
	if !f.Frozen() {
		t.Error("the host was not given its time")
	}
	k.advance(2 * tick)
	if f.Frozen() || len(k.told()) != 0 {
		t.Error("a guest whose host has died stays frozen")
	}
}

func TestEachJumpOfTheClockTakesOneTickFromTheHostsTime(t *testing.T) {
	f, k := newFreezer(t)
	f.mustFreeze(t)
	for range int(frozenMax/tick) - 1 {
		k.jump(time.Hour)
	}
	if !f.Frozen() || len(k.timers) != 1 {
		t.Errorf("frozen: %t, %d timers", f.Frozen(), len(k.timers))
	}
	if err := f.Thaw(); err != nil || len(k.timers) != 0 {
		t.Errorf("%v, %d timers run for a guest that is not frozen", err, len(k.timers))
	}
}

func TestAnAgentThatDiedLeavesNothingFrozen(t *testing.T) {
	f, k := newFreezer(t)
	f.mustFreeze(t)
	next := k.newFreezer()
	next.record = f.record
	next.recover()
	if got := k.told(); len(got) != 0 || next.Frozen() {
		t.Errorf("got %v", got)
	}
	after := k.newFreezer()
	after.record = f.record
	k.write("/user.slice", "cgroup.freeze", "1\n") // Frozen by another program since.
	after.recover()
	if got := k.told(); !slices.Equal(got, []string{"/user.slice"}) {
		t.Errorf("the record still counts: got %v", got)
	}
}

func TestWhatTheUserHasFrozenStaysFrozen(t *testing.T) {
	f, k := newFreezer(t)
	k.write("/user.slice", "cgroup.freeze", "1\n")
	f.mustFreeze(t)
	if err := f.Thaw(); err != nil {
		t.Fatal(err)
	}
	if got := k.told(); !slices.Equal(got, []string{"/user.slice"}) {
		t.Errorf("got %v", got)
	}
}

func TestACgroupThatIsRemovedMeanwhileIsNoFailure(t *testing.T) {
	f, k := newFreezer(t)
	k.stuck = "/user.slice"
	k.onSleep = func() { os.RemoveAll(k.root + "/user.slice") }
	f.mustFreeze(t)
	if err := f.Thaw(); err != nil {
		t.Error(err)
	}
}

func TestTheSeedOfTheNextBootIsRemovedAndFlushingComesFirst(t *testing.T) {
	f, k := newFreezer(t)
	if err := os.WriteFile(f.seed, []byte("seed"), 0o600); err != nil {
		t.Fatal(err)
	}
	var frozenAtFlush []string
	f.sync = func() { frozenAtFlush = k.told() }
	if _, err := f.Freeze(context.Background(), Options{Flush: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(f.seed); err == nil || frozenAtFlush == nil || len(frozenAtFlush) != 0 {
		t.Errorf("the seed: %v, frozen: %v", err, frozenAtFlush)
	}
}

func TestNothingIsStartedInAFrozenGuest(t *testing.T) {
	f, _ := newFreezer(t)
	f.mustFreeze(t)
	gone, leave := context.WithCancel(context.Background())
	entered, refused := make(chan error), make(chan error)
	go func() { entered <- f.Enter(context.Background()) }()
	go func() { refused <- f.Enter(gone) }()
	leave()
	if err := <-refused; err == nil {
		t.Error("a caller that left may start a program")
	}
	select {
	case <-entered:
		t.Error("a program is started in a frozen guest")
	default:
	}
	if err := f.Thaw(); err != nil {
		t.Fatal(err)
	}
	if err := <-entered; err != nil {
		t.Error(err)
	}
}

func TestAGuestIsNotFrozenWhileAProgramIsBeingStarted(t *testing.T) {
	f, k := newFreezer(t)
	if err := f.Enter(context.Background()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := f.Freeze(ctx, Options{}); err == nil || len(k.told()) != 0 {
		t.Errorf("got %v, %v", err, k.told())
	}
	f.Leave()
	f.mustFreeze(t)
}
