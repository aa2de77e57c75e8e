package boot

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Console is the guest's console, on which a failed boot is explained.
type Console struct{ out *os.File }

// OpenConsole makes the console the agent's stdin, stdout and stderr. The kernel could not: an initramfs without device
// files has no /dev/console before devtmpfs is mounted. If there is no console, messages are lost.
func OpenConsole() *Console {
	fd, err := unix.Open("/dev/console", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err == nil {
		for standard := range 3 {
			_ = unix.Dup3(fd, standard, 0)
		}
		unix.Close(fd)
	}
	return &Console{out: os.Stdout}
}

// Say writes one line.
func (c *Console) Say(format string, args ...any) {
	fmt.Fprintf(c.out, "hearth: "+format+"\n", args...)
}

// Stage reports a step that is done, with the time since the kernel started.
func (c *Console) Stage(name string) {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) // Never fails for this clock.
	c.Say("%s %.2fs", name, float64(now.Nano())/1e9)
}

func (c *Console) Write(b []byte) (int, error) { return c.out.Write(b) }
