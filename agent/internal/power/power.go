// Package power ends the guest so that nothing that was written is lost.
package power

import (
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
	"hearth.dev/agent/internal/reaper"
)

// The host's patience, where it names none.
const defaultTimeout = 10 * time.Second

// After SIGKILL only the kernel holds a process up, in a read from a disk for example.
const killTimeout = 2 * time.Second

// Init ends a guest whose PID 1 is the agent.
type Init struct {
	Console io.Writer
	Reaper  *reaper.Reaper
	// HangUp is told first; see execs.Runner.HangUpTerminals.
	HangUp func()
	// Root says whether the root is on a disk; an initramfs has nothing to make read only.
	Root bool
	// Disks are file systems to make read only after the root, by paths that stay valid; may be empty.
	Disks []string
}

// End ends all processes, flushes, and turns the power off (or on again). It does not return.
func (i Init) End(reboot bool, timeout time.Duration) {
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	// Stopped processes would not see SIGTERM before they go on.
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGCONT} {
		_ = unix.Kill(-1, signal) // Fails when there is nobody, which is what we want.
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

// closeDisks makes the file systems read only, the root before the disk that it lies on. That writes their
// journals out, so that the host finds them clean. A failure loses nothing: all was flushed already.
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

// HasSwitch says whether this machine can turn its power off. One that cannot halts for good when it tries, and
// its VMM runs on; a restart ends it, because VMMs run without reboots. Set once, before anything else in here.
var HasSwitch = true

// Off flushes and turns the power off (or on again) at once. It does not return.
func Off(reboot bool) {
	unix.Sync()
	command := unix.LINUX_REBOOT_CMD_POWER_OFF
	if reboot || !HasSwitch {
		command = unix.LINUX_REBOOT_CMD_RESTART
	}
	_ = unix.Reboot(command)
	// A kernel that knows no way to turn the power off. A restart ends the VMM as well, which runs without reboots.
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

// Systemd asks the image's own init to end the guest, and insists after the timeout. It needs no program of
// the image and no bus, both of which may be broken when somebody wants a guest to stop.
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
