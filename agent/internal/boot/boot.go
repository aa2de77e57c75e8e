package boot

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Booted is a guest whose PID 1 is the agent: for good, or until the host has configured the guest and ExecInit
// replaces PID 1 by the image's own init.
type Booted struct {
	Options Options
	Console *Console
	Disks   []string // For power.Init.
}

// The limit of open files. Linux' own default is 1024, or at most 4096, and every distribution raises it.
var openFiles = syscall.Rlimit{Cur: 65536, Max: 524288}

// Run boots the guest. On failure it has reported the error on the console, and the caller turns the power off.
func Run() (Booted, error) {
	unix.Umask(0o022)
	if err := mountAll(earlyMounts); err != nil {
		return Booted{Console: OpenConsole()}, err
	}
	booted := Booted{Console: OpenConsole()}
	booted.Console.Stage("started")
	options, err := ReadCommandLine()
	if err != nil {
		return booted, fmt.Errorf("the kernel's command line: %w", err)
	}
	booted.Options = options
	if err := loadModules(booted.Console, "/mods.txt"); err != nil {
		return booted, err
	}
	booted.Console.Stage("modules")
	if options.Root == "overlay" {
		if booted.Disks, err = enterRoot(booted.Console, options); err != nil {
			return booted, err
		}
	}
	if options.Init == "systemd" {
		return booted, nil // The image's init does the rest.
	}
	if err := mountAll([]mount{runMount}); err != nil {
		return booted, err
	}
	if err := furnish(); err != nil {
		return booted, err
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &openFiles); err != nil {
		booted.Console.Say("the limit of open files stays: %v", err)
	}
	return booted, nil
}

func enterRoot(console *Console, options Options) ([]string, error) {
	self, err := openSelf()
	if err != nil {
		return nil, err
	}
	defer self.Close()
	disk, err := mountRoot(console, options)
	if err != nil {
		return nil, err
	}
	if err := switchRoot(); err != nil {
		return nil, err
	}
	if err := mountModules(options.Modules); err != nil {
		console.Say("the kernel's modules are missing: %v", err)
	}
	console.Stage("rooted")
	if options.Init == "systemd" {
		return nil, prepareInit(self)
	}
	return []string{disk}, nil
}
