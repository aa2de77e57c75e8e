// Package disks is what the guest's own disk and its volumes have in common: they may come a moment late, and are
// held so that they can be flushed at the end.
package disks

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel finds its disks before it starts the agent; one whose driver was just loaded takes a moment.
const deviceTimeout = 10 * time.Second

// WaitFor returns once the device is there.
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

// Hold keeps the folder open for the life of the agent, which is that of the guest. The path that it gives stays
// valid when something hides the folder.
func Hold(folder string) (string, error) {
	fd, err := unix.Open(folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("open %s: %w", folder, err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", fd), nil
}
