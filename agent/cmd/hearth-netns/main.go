// Command hearth-netns makes and removes the network of a VM; see package vmnet.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"

	"golang.org/x/sys/unix"

	"hearth.dev/agent/internal/vmnet"
)

var version = "0.0.0"

// The first thread stays that of main, in the namespace of the host: /proc/self is about it.
func init() { runtime.LockOSThread() }

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// answer is what the program prints. An error is for the helper to word; all other errors are texts on stderr.
type answer struct {
	Address string `json:"address,omitempty"`
	Error   string `json:"error,omitempty"`
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("hearth-netns %s: give one verb: make or remove", version)
	}
	if err := endWithHelper(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	var said answer
	switch args[0] {
	case "make":
		var network vmnet.Network
		if err := read(os.Stdin, &network); err != nil {
			return err
		}
		address, err := vmnet.Make(ctx, network)
		switch {
		case errors.Is(err, vmnet.ErrNoAddress):
			said.Error = "no address"
		case err != nil:
			return err
		default:
			said.Address = address.String()
		}
	case "remove":
		var network vmnet.Made
		if err := read(os.Stdin, &network); err != nil {
			return err
		}
		if err := vmnet.Remove(ctx, network); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%q is no verb", args[0])
	}
	return json.NewEncoder(os.Stdout).Encode(said)
}

func read(from io.Reader, value any) error {
	decoder := json.NewDecoder(from)
	decoder.DisallowUnknownFields()
	return decoder.Decode(value)
}

// endWithHelper has the kernel end this process with the one that started it: what removes a network must not meet one
// that is still being made.
func endWithHelper() error {
	parent := os.Getppid()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	if os.Getppid() != parent {
		return errors.New("the helper has ended")
	}
	return nil
}
