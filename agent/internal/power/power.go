// Package power ends the guest without losing data that was written.
package power

import (
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
	"hearth.dev/agent/internal/reaper"
)

// The timeout of a request that names none.
const defaultTimeout = 10 * time.Second

// After SIGKILL only the kernel can keep a process, for example in a read from a disk.
const killTimeout = 2 * time.Second

// Init ends a guest whose PID 1 is the agent.
type Init struct {
	Console io.Writer
	Reaper  *reaper.Reaper
	// HangUp is called first; see execs.Runner.HangUpTerminals.
	HangUp func()
	// Root tells whether the root is on a disk. An initramfs cannot be made read only.
	Root bool
	// Disks are the file systems to make read only after the root, by paths that stay valid. May be empty.
	Disks []string
}

// End ends all processes, flushes, and turns the power off, or reboots. It does not return.
func (i Init) End(reboot bool, timeout time.Duration) {
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	// SIGCONT follows, because stopped processes do not handle SIGTERM before they continue.
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGCONT} {
		_ = unix.Kill(-1, signal) // Fails if no process is left, which is the aim.
	}
	if i.HangUp != nil {
		i.HangUp()
	}
	if !i.waitForChildren(timeout) {
		_ = unix.Kill(-1, unix.SIGKILL)
		if !i.waitForChildren(killTimeout) {
			fmt.Fprintln(i.Console, "hearth: some processes survive SIGKILL; going on without them")
		}
	}
	unix.Sync()
	i.closeDisks()
	Off(reboot)
}

func (i Init) waitForChildren(timeout time.Duration) bool {
	deadline := time.Now().Add(timeout)
	for !i.Reaper.Childless() {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(5 * time.Millisecond)
	}
	return true
}

// closeDisks makes the file systems read only, the root before the disk that it is on. That writes out their journals,
// so that the host finds them clean. A failure loses no data, because everything was flushed before.
func (i Init) closeDisks() {
	if !i.Root {
		return
	}
	for _, path := range append([]string{"/"}, i.Disks...) {
		if err := unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			fmt.Fprintf(i.Console, "hearth: %s stays writable: %v\n", path, err)
		}
	}
}

// HasSwitch tells whether this machine can turn its power off. A machine that cannot would stop its CPUs when it tries,
// and its VMM would keep running; a restart ends the VMM, because VMMs run with reboots disabled. Set once, before any
// other use of this package.
var HasSwitch = true

// Off flushes, and turns the power off or reboots at once. It does not return.
func Off(reboot bool) {
	unix.Sync()
	command := unix.LINUX_REBOOT_CMD_POWER_OFF
	if reboot || !HasSwitch {
		command = unix.LINUX_REBOOT_CMD_RESTART
	}
	_ = unix.Reboot(command)
	// The kernel cannot turn the power off. A restart ends the VMM as well, which runs with reboots disabled.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	select {}
}

// systemd's signals to PID 1 (systemd(1), "Signals").
const (
	signalPoweroff      = unix.Signal(34 + 4)  // SIGRTMIN+4
	signalReboot        = unix.Signal(34 + 5)  // SIGRTMIN+5
	signalForcePoweroff = unix.Signal(34 + 14) // SIGRTMIN+14
	signalForceReboot   = unix.Signal(34 + 15) // SIGRTMIN+15
)

// Systemd asks the image's own init to end the guest, and forces it after the timeout. It uses neither programs of the
// image nor D-Bus, both of which may be broken when the guest has to be stopped.
func Systemd(console io.Writer, reboot bool, timeout time.Duration) {
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	polite, force := signalPoweroff, signalForcePoweroff
	if reboot || !HasSwitch {
		polite, force = signalReboot, signalForceReboot
	}
	if err := unix.Kill(1, polite); err != nil {
		fmt.Fprintf(console, "hearth: init does not take the signal to stop: %v\n", err)
	}
	time.AfterFunc(timeout, func() {
		unix.Sync()
		_ = unix.Kill(1, force)
		time.AfterFunc(killTimeout, func() { Off(reboot) })
	})
}
