package disks

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// bySerial is the prefix of a disk name with a serial number.
const bySerial = "serial:"

// Find waits for a disk and returns its device. A disk is named by its device, such as /dev/vdb, or by its serial
// number, such as serial:own; a serial number does not depend on the order of the disks.
func Find(disk string) (string, error) {
	serial, ok := strings.CutPrefix(disk, bySerial)
	if !ok {
		return disk, WaitFor(disk)
	}
	return finder{"/sys/block", "/dev"}.find(serial, deviceTimeout)
}

// IsName tells whether Find understands the name.
func IsName(disk string) bool {
	serial, ok := strings.CutPrefix(disk, bySerial)
	return ok && serial != "" || strings.HasPrefix(disk, "/dev/")
}

type finder struct{ sys, dev string }

// find reads the serial numbers from sysfs: without udev there is no /dev/disk/by-id. The driver asks the device on
// each read, so a restored guest reads the serial numbers of its present disks.
func (f finder) find(serial string, timeout time.Duration) (string, error) {
	deadline := time.Now().Add(timeout)
	for {
		device, err := f.look(serial)
		if err == nil {
			return device, WaitFor(device)
		}
		if !errors.Is(err, os.ErrNotExist) || time.Now().After(deadline) {
			return "", err
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (f finder) look(serial string) (string, error) {
	files, err := filepath.Glob(f.sys + "/vd*/serial")
	if err != nil {
		return "", err
	}
	var found []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil && strings.TrimSpace(string(text)) == serial {
			found = append(found, filepath.Base(filepath.Dir(file)))
		}
	}
	switch len(found) {
	case 1:
		return filepath.Join(f.dev, found[0]), nil
	case 0:
		return "", fmt.Errorf("no disk of this VM has the serial %q: %w", serial, os.ErrNotExist)
	default:
		return "", fmt.Errorf("the disks %s have the same serial %q", strings.Join(found, " and "), serial)
	}
}
