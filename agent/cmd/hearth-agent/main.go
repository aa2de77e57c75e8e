// hearth-agent is Hearth's program in the guest. It runs as:
//
//	/init of the initramfs, PID 1       boots the guest and serves the host; in an image with its own init, until
//	                                    the guest is configured, and then it executes that init
//	hearth-agent --service              a service of the image's own init
//	hearth-agent --listen unix:PATH     on the host, for tests: serves a socket and changes nothing else
//	hearth-agent --version
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"runtime/debug"
	"strings"

	"hearth.dev/agent/internal/accounts"
	"hearth.dev/agent/internal/boot"
	"hearth.dev/agent/internal/channel"
	"hearth.dev/agent/internal/execs"
	"hearth.dev/agent/internal/power"
	"hearth.dev/agent/internal/reaper"
	"hearth.dev/agent/internal/rpc"
)

var version = "dev" // Set by tools/build-agent.sh.

// The guest's memory belongs to the user. The agent's heap is small, so collecting it more often costs little.
const gcPercent = 50

func main() {
	debug.SetGCPercent(gcPercent)
	if os.Getpid() == 1 {
		runInit()
		return
	}
	if err := runProgram(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "hearth-agent: %v\n", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: hearth-agent --version | --service | --listen unix:PATH")

func runProgram(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "--version":
		fmt.Println(version)
		return nil
	case len(args) == 1 && args[0] == "--service":
		return runService()
	case len(args) == 2 && args[0] == "--listen":
		path, ok := strings.CutPrefix(args[1], "unix:")
		if !ok || path == "" {
			return errUsage
		}
		return runListener(path)
	}
	return errUsage
}

func runInit() {
	booted, err := boot.Run()
	power.HasSwitch = booted.Options.Off != "restart"
	if err != nil {
		endGuest(booted.Console, err)
	}
	if booted.Options.Init == "systemd" {
		endGuest(booted.Console, startInit(booted))
	}
	logger := log.New(booted.Console, "hearth: ", 0)
	runner := execs.NewRunner(reaper.New(context.Background(), true), accounts.System)
	machine := newInitMachine(booted, runner, logger)
	ignoreFatalSignals()
	machine.powerOffOnSignal()
	server := newServer(logger, runner, machine, "agent")
	endGuest(booted.Console, serveHost(server, booted.Options.Channel, booted.Console.Stage))
}

func runService() error {
	logger := log.New(os.Stderr, "hearth-agent: ", 0)
	runner := execs.NewRunner(reaper.New(context.Background(), true), accounts.System)
	options, err := boot.ReadCommandLine()
	if err != nil {
		return fmt.Errorf("the kernel's command line: %w", err)
	}
	power.HasSwitch = options.Off != "restart"
	server := newServer(logger, runner, newServiceMachine(runner, logger), "systemd")
	return serveHost(server, options.Channel, func(string) {})
}

func newServer(logger *log.Logger, runner *execs.Runner, machine rpc.Machine, init string) *channel.Server {
	service := &rpc.Service{Version: version, Init: init, Runner: runner, Machine: machine}
	return channel.NewServer(service.Handler(), logger)
}

// serveHost accepts the host's connections on the port, on vsock or on a socket. It returns only on failure.
func serveHost(server *channel.Server, where string, stage func(string)) error {
	if where == "vsock" {
		stage("ready")
		return server.ServeVsock(context.Background())
	}
	ctx, cancel := context.WithTimeout(context.Background(), portTimeout)
	defer cancel()
	port, err := channel.OpenPort(ctx)
	if err != nil {
		return err
	}
	stage("ready")
	return server.ServePort(port)
}
