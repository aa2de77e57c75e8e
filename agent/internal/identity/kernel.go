package identity

import (
	"encoding/binary"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Linux is the running kernel.
type Linux struct {
	network Network // That was set up last.
}

// Smaller differences are left alone: they are partly the time of the message itself, and steps disturb programs.
const clockTolerance = 50 * time.Millisecond

// SetHostname sets the kernel's node name.
func (*Linux) SetHostname(name string) error { return unix.Sethostname([]byte(name)) }

// SetClock steps the real-time clock to the host's if it is wrong.
func (*Linux) SetClock(unixNs int64) error {
	off := time.Since(time.Unix(0, unixNs)).Abs()
	if off <= clockTolerance {
		return nil
	}
	now := unix.NsecToTimeval(unixNs)
	return unix.Settimeofday(&now)
}

const bootIDFile = "/proc/sys/kernel/random/boot_id"

// BootID returns the kernel's boot id with its newline.
func (*Linux) BootID() (string, error) {
	text, err := os.ReadFile(bootIDFile)
	return string(text), err
}

// ShowBootID mounts the file over the kernel's own, which cannot be written.
func (*Linux) ShowBootID(path string) error {
	ours, err := os.Stat(path)
	if err != nil {
		return err
	}
	shown, err := os.Stat(bootIDFile)
	if err != nil || os.SameFile(ours, shown) {
		return err
	}
	if err := unix.Mount(path, bootIDFile, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount over %s: %w", bootIDFile, err)
	}
	return nil
}

// AddEntropy mixes the seed into the kernel's generator, credits it, and reseeds at once: two guests that were restored
// from one snapshot must not draw the same numbers.
func (*Linux) AddEntropy(seed []byte) error {
	random, err := unix.Open("/dev/urandom", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/urandom: %w", err)
	}
	defer unix.Close(random)
	// struct rand_pool_info: entropy_count in bits, buf_size in bytes, then the bytes.
	info := make([]byte, 8, 8+len(seed))
	binary.NativeEndian.PutUint32(info[0:], uint32(len(seed)*8))
	binary.NativeEndian.PutUint32(info[4:], uint32(len(seed)))
	info = append(info, seed...)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(random), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&info[0])))
	if errno != 0 {
		return fmt.Errorf("RNDADDENTROPY: %w", errno)
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(random), unix.RNDRESEEDCRNG, 0); errno != 0 {
		return fmt.Errorf("RNDRESEEDCRNG: %w", errno)
	}
	return nil
}
