package main

import (
	"context"
	"log"
	"sync"
	"time"

	"hearth.dev/agent/internal/accounts"
	"hearth.dev/agent/internal/boot"
	"hearth.dev/agent/internal/channel"
	"hearth.dev/agent/internal/execs"
	"hearth.dev/agent/internal/fault"
	"hearth.dev/agent/internal/freezer"
	"hearth.dev/agent/internal/identity"
	"hearth.dev/agent/internal/power"
	"hearth.dev/agent/internal/reaper"
	"hearth.dev/agent/internal/rpc"
	"hearth.dev/agent/internal/volumes"
)

// The time for the host to close the connection after it has configured the guest. It does so at once.
const hostLeaves = 5 * time.Second

// startInit leaves PID 1 to the image's own init, once the guest has its identity, its network and its volumes:
//
//  1. The agent serves the host, and answers Configure with `init_follows`.
//  2. The host closes the connection.
//  3. PID 1 executes the image's init, which starts the agent as a service.
//
// So no service of the guest runs before its volume is mounted, however late the host connects. A guest whose host
// never connects starts nothing. startInit returns only on failure.
func startInit(booted boot.Booted) error {
	logger := log.New(booted.Console, "hearth: ", 0)
	// Not protected from the kernel's out-of-memory killer: init and all services would inherit the protection.
	runner := execs.NewRunner(reaper.New(context.Background(), false), accounts.System)
	late := make(chan struct{})
	var once sync.Once
	service := &rpc.Service{
		Version: version, Init: booted.Options.Init, Runner: runner, Machine: newEarlyMachine(booted.Options, logger), InitFollows: true,
		OnConfigured: func() {
			booted.Console.Stage("configured")
			once.Do(func() { time.AfterFunc(hostLeaves, func() { close(late) }) })
		},
	}
	server := channel.NewServer(service.Handler(), logger)
	server.Last = service.Configured
	served := make(chan error, 1)
	go func() { served <- serveHost(server, booted.Options.Channel, booted.Console.Stage) }()
	select {
	case err := <-served:
		if err != nil {
			return err
		}
	case <-late:
	}
	return booted.ExecInit()
}

// earlyMachine is a guest whose init has not started. Only the agent runs in it.
type earlyMachine struct {
	identity.Guest
	volumes.Set
}

func newEarlyMachine(options boot.Options, logger *log.Logger) *earlyMachine {
	guest := newGuest(logger)
	guest.InitsMachineID = options.MachineID
	return &earlyMachine{Guest: guest, Set: volumes.Set{System: volumes.Linux{}}}
}

var errNoInit = fault.New(fault.AgentFailed, "the guest's init has not started yet")

func (*earlyMachine) Freeze(context.Context, freezer.Options) ([]string, error) {
	return nil, errNoInit
}
func (*earlyMachine) Thaw() error                 { return nil }
func (*earlyMachine) Renew(bool)                  {}
func (*earlyMachine) Frozen() bool                { return false }
func (*earlyMachine) Enter(context.Context) error { return errNoInit }
func (*earlyMachine) Leave()                      {}

func (*earlyMachine) Shutdown(reboot bool, _ time.Duration) {
	time.AfterFunc(answerTime, func() { power.Off(reboot) })
}
