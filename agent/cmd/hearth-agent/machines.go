package main

import (
	"context"
	"errors"
	"io/fs"
	"log"
	"net"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"hearth.dev/agent/internal/accounts"
	"hearth.dev/agent/internal/boot"
	"hearth.dev/agent/internal/execs"
	"hearth.dev/agent/internal/freezer"
	"hearth.dev/agent/internal/hostkeys"
	"hearth.dev/agent/internal/identity"
	"hearth.dev/agent/internal/power"
	"hearth.dev/agent/internal/reaper"
	"hearth.dev/agent/internal/volumes"
)

const (
	// The port's driver may find its device after the agent has started.
	portTimeout = 10 * time.Second
	// The time for the answer to Shutdown to be sent. Ending the processes takes longer anyway.
	answerTime = 50 * time.Millisecond
)

// endGuest reports on the console why the guest cannot continue, and turns the power off.
func endGuest(console *boot.Console, err error) {
	console.Say("cannot continue: %v", err)
	power.Off(false)
}

// initMachine is a guest whose PID 1 is the agent.
type initMachine struct {
	identity.Guest
	volumes.Set
	*freezer.Freezer
	end  power.Init
	once sync.Once
}

func newInitMachine(booted boot.Booted, runner *execs.Runner, logger *log.Logger) *initMachine {
	return &initMachine{
		Guest:   newGuest(logger),
		Set:     volumes.Set{System: volumes.Linux{}},
		Freezer: newFreezer(runner, logger),
		end: power.Init{
			Console: booted.Console,
			Reaper:  runner.Reaper(),
			HangUp:  runner.HangUpTerminals,
			Disks:   booted.Disks,
			Root:    booted.Options.Root == "overlay",
		},
	}
}

func newGuest(logger *log.Logger) identity.Guest {
	return identity.Guest{Root: "/", Kernel: &identity.Linux{}, Keys: hostkeys.New(logger)}
}

func newFreezer(runner *execs.Runner, logger *log.Logger) *freezer.Freezer {
	f := freezer.New(logger)
	runner.Cgroup = f.ExecCgroup
	return f
}

func (m *initMachine) Shutdown(reboot bool, timeout time.Duration) {
	go m.once.Do(func() {
		time.Sleep(answerTime)
		_ = m.Thaw() // Frozen processes get no SIGTERM. SIGKILL ends those that cannot be thawed.
		m.end.Disks = append(m.Writable(), m.end.Disks...)
		m.end.End(reboot, timeout)
	})
}

// powerOffOnSignal handles the signals with which people and programs ask PID 1 to end the system.
func (m *initMachine) powerOffOnSignal() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPWR)
	go func() {
		<-signals
		m.Shutdown(false, 0)
	}()
}

// ignoreFatalSignals keeps PID 1 alive, whose end would be a kernel panic: Go's runtime ends a program at these signals
// unless it asks for them. They are not set to SIG_IGN, which the commands of the guest would inherit.
func ignoreFatalSignals() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGTRAP,
		syscall.SIGSYS, syscall.SIGSTKFLT, syscall.SIGXCPU, syscall.SIGXFSZ)
}

// serviceMachine is a guest with its own init, which unmounts the file systems at the end.
type serviceMachine struct {
	identity.Guest
	volumes.Set
	*freezer.Freezer
}

func newServiceMachine(runner *execs.Runner, logger *log.Logger) *serviceMachine {
	return &serviceMachine{
		Guest:   newGuest(logger),
		Set:     volumes.Set{System: volumes.Linux{}},
		Freezer: newFreezer(runner, logger),
	}
}

func (m *serviceMachine) Shutdown(reboot bool, timeout time.Duration) {
	time.AfterFunc(answerTime, func() {
		_ = m.Thaw() // Frozen services could not end. Init kills those that cannot be thawed.
		power.Systemd(os.Stderr, reboot, timeout)
	})
}

// pretendMachine is for tests on a host. It leaves the machine as it is, and ends the agent in place of the machine.
type pretendMachine struct {
	end    context.CancelFunc
	frozen atomic.Bool
}

func (*pretendMachine) Configure(context.Context, identity.Identity) identity.Outcome {
	return identity.Outcome{}
}

func (*pretendMachine) SetClock(int64) error { return nil }

func (*pretendMachine) Mount([]volumes.Mount) error { return nil }

func (m *pretendMachine) Freeze(context.Context, freezer.Options) ([]string, error) {
	m.frozen.Store(true)
	return nil, nil
}

func (m *pretendMachine) Thaw() error {
	m.frozen.Store(false)
	return nil
}

func (m *pretendMachine) Frozen() bool { return m.frozen.Load() }

func (*pretendMachine) Renew(bool) {}

func (*pretendMachine) Enter(context.Context) error { return nil }

func (*pretendMachine) Leave() {}

func (m *pretendMachine) Shutdown(bool, time.Duration) { time.AfterFunc(answerTime, m.end) }

func runListener(path string) error {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	logger := log.New(os.Stderr, "hearth-agent: ", 0)
	runner := execs.NewRunner(reaper.New(ctx, false), accounts.System)
	defer runner.KillAll()
	return newServer(logger, runner, &pretendMachine{end: cancel}, "agent").Listen(ctx, listener)
}
