// Package disks finds the guest's disks, which may appear a moment late, and keeps their mounts reachable, so that they
// can be flushed at the end.
package disks

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel finds its disks before it starts the agent. A disk whose driver was just loaded takes a moment.
const deviceTimeout = 10 * time.Second

// WaitFor returns once the device exists.
func WaitFor(device string) error {
	deadline := time.Now().Add(deviceTimeout)
	for {
		_, err := os.Stat(device)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the disk %s did not appear in %s; the VM needs its disks and their drivers: %w",
				device, deviceTimeout, err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// KeepOpen keeps the directory open for the life of the agent, which is that of the guest. It returns a path that stays
// valid when a mount hides the directory.
func KeepOpen(dir string) (string, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("open %s: %w", dir, err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", fd), nil
}
