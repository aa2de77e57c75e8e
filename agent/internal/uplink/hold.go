// Package uplink holds the namespaces of one VM's network for a hearthd that is not root, and keeps the guest from the
// host's own addresses there:
//
//  1. start makes a process in a user namespace and a PID namespace of its own, which is the first of the latter
//  2. that process makes the network namespace, loads the rules against the host's addresses, and drops its rights
//  3. hearthd makes the rest from outside, with the rights that it has in the user namespace
//
// pasta, which connects the namespace, runs in the PID namespace: the kernel ends it with the holder. Nothing of the
// three namespaces is a file, so nothing is left when the holder has ended.
package uplink

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// HoldVerb is the name by which the program starts itself.
const HoldVerb = "hold"

// answerFD is where the holder says that the namespaces exist, or why not.
const answerFD = 3

// answered is the answer of a holder that holds.
const answered = "held\n"

// Options describe the network.
type Options struct {
	// Owner is the directory of the VM. It is an argument of the holder, by which hearthd finds it.
	Owner string
	// Card is the TAP device of the guest.
	Card string
	// Nft is the path of nft(8).
	Nft string
}

// Start starts the holder, and prints its pid when the namespaces exist. The holder outlives this process.
func Start(_ Options, args []string) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	answer, answerOfHolder, err := os.Pipe()
	if err != nil {
		return err
	}
	process, err := os.StartProcess(program, append([]string{program, HoldVerb}, args...), &os.ProcAttr{
		Dir:   "/",
		Env:   []string{},
		Files: []*os.File{null, null, null, answerOfHolder},
		Sys: &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
			Setsid:      true,
		},
	})
	if err != nil {
		return fmt.Errorf("make a user namespace: %w", err)
	}
	answerOfHolder.Close()
	said, err := io.ReadAll(answer)
	if err != nil {
		return err
	}
	if string(said) != answered {
		return fmt.Errorf("the holder of the namespaces has ended: %s", strings.TrimSpace(string(said)))
	}
	fmt.Println(process.Pid)
	return process.Release()
}

// Hold is the holder's process. It returns when the rules could not be kept: the network ends with the process.
func Hold(options Options) error {
	answer := os.NewFile(answerFD, "answer")
	err := hold(options, func() error {
		_, err := answer.WriteString(answered)
		return errors.Join(err, answer.Close())
	})
	// Nobody reads it any more after the answer.
	_, _ = answer.WriteString(err.Error())
	return err
}

func hold(options Options, onHeld func() error) error {
	// The first thread is in the network namespace that others see of this process, and all others in the host's.
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		return errors.New("the program does not run in its first thread")
	}
	host, err := watchHost()
	if err != nil {
		return fmt.Errorf("watch the addresses of the host: %w", err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	known := ""
	enforce := func() error {
		networks, err := host.networks()
		if err != nil {
			return fmt.Errorf("read the addresses of the host: %w", err)
		}
		program := rules(options.Card, networks)
		if program == known {
			return nil
		}
		known = program
		return load(options.Nft, program)
	}
	if err := enforce(); err != nil {
		return err
	}
	if err := dropRights(); err != nil {
		return fmt.Errorf("drop rights: %w", err)
	}
	if err := onHeld(); err != nil {
		return err
	}
	for range host.changes {
		if err := enforce(); err != nil {
			return err
		}
	}
	return errors.New("the kernel does not tell the addresses of the host any more")
}

// load loads a program in the namespace of this thread. nft(8) gets the rights of the namespace's root when it is
// executed, which this process has not.
func load(nft string, program string) error {
	command := exec.Command(nft, "-f", "-")
	command.Stdin = strings.NewReader(program)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", nft, err, strings.TrimSpace(string(output)))
	}
	return nil
}

// dropRights drops all capabilities: pasta may then read the namespaces of this process, with fewer rights than root.
// Programs that are executed have CAP_NET_ADMIN, and no other.
func dropRights() error {
	for capability := uintptr(0); capability <= unix.CAP_LAST_CAP; capability++ {
		if capability == unix.CAP_NET_ADMIN {
			continue
		}
		_, _, err := syscall.AllThreadsSyscall(syscall.SYS_PRCTL, unix.PR_CAPBSET_DROP, capability, 0)
		// An older kernel has fewer.
		if err != 0 && err != syscall.EINVAL {
			return err
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	none := [2]unix.CapUserData{}
	_, _, err := syscall.AllThreadsSyscall(
		syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none)), 0,
	)
	if err != 0 {
		return err
	}
	return nil
}
