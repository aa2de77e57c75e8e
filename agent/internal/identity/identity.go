// Package identity gives the guest what makes it this guest: name, addresses, machine id, clock, entropy.
package identity

import (
	"context"
	"errors"
	"fmt"
)

// Identity is what the host decided. Empty fields leave the guest as it is.
type Identity struct {
	Hostname   string
	UnixTimeNs int64
	Entropy    []byte
	MachineID  string // 32 hex digits.
	Network    Network
	// Restored says that the guest begins another life in the middle: what tells it from its copies is made anew.
	Restored bool
}

// Network is the one interface that a guest may have beside lo.
type Network struct {
	MAC         string // Empty leaves the interface's.
	Interface   string
	Addresses   []string // CIDR.
	Gateway     string
	Nameservers []string
}

// Guest is the machine that is changed. Tests give it another root folder and another kernel.
type Guest struct {
	Root   string // Of the files in /etc; "/" in a guest.
	Kernel Kernel
	Keys   HostKeys
	// InitsMachineID is what the image's init, which has not started, writes itself where there is no machine id: it
	// takes the missing file for its first boot (machine-id(5)), which it is. Empty: it writes none.
	InitsMachineID string
}

// HostKeys are those of the guest's SSH server; see hostkeys.Keys.
type HostKeys interface {
	Renew(comment string) error
	Resume(comment string)
}

// Kernel is the part of an identity that the kernel keeps.
type Kernel interface {
	SetHostname(name string) error
	SetClock(unixNs int64) error
	AddEntropy(seed []byte) error
	SetUpNetwork(ctx context.Context, network Network) error
	// ForgetNeighbours drops what is known of who is at which address beside the interface.
	ForgetNeighbours(ctx context.Context, network Network) error
	BootID() (text string, err error)
	// ShowBootID makes the file's text the kernel's boot id. Idempotent.
	ShowBootID(path string) error
}

// SetClock sets the wall clock, when it is off.
func (g Guest) SetClock(unixNs int64) error { return g.Kernel.SetClock(unixNs) }

// Part names a part of an identity that no two lives of one guest may share.
type Part string

const (
	PartEntropy   Part = "entropy"
	PartClock     Part = "clock"
	PartBootID    Part = "boot id"
	PartMachineID Part = "machine id"
	PartHostKeys  Part = "SSH host keys"
)

// NotRenewed says that a restored guest still has a part of the snapshot's identity, and why.
type NotRenewed struct {
	Part  Part
	Cause error
}

func (n NotRenewed) Error() string { return fmt.Sprintf("%s: %v", n.Part, n.Cause) }

func (n NotRenewed) Unwrap() error { return n.Cause }

// Outcome is what Configure could not do.
type Outcome struct {
	// Warnings are sentences about parts without which the guest can run.
	Warnings []string
	// NotRenewed is about restored guests alone: with any of these, the guest must not run.
	NotRenewed []NotRenewed
}

// Configure does all that it can, entropy first: what follows may draw from it. A guest that booted shares nothing
// with another one and runs without a part of its identity, so its failures are warnings. A restored guest may be one
// of many copies: what it could not renew of the parts that tell copies apart is in NotRenewed.
func (g Guest) Configure(ctx context.Context, id Identity) Outcome {
	var out Outcome
	try := func(wanted bool, sentence string, do func() error) {
		if !wanted {
			return
		}
		if err := do(); err != nil {
			out.Warnings = append(out.Warnings, fmt.Sprintf("%s: %v", sentence, err))
		}
	}
	renew := func(part Part, sentence string, do func() error) {
		if !id.Restored {
			try(true, sentence, do)
		} else if err := do(); err != nil {
			out.NotRenewed = append(out.NotRenewed, NotRenewed{part, err})
		}
	}
	renew(PartEntropy, "The entropy could not be added", func() error { return g.addEntropy(id) })
	renew(PartClock, "The clock could not be set", func() error { return g.setClock(id) })
	if id.Restored {
		renew(PartBootID, "", g.renewBootID)
	} else {
		try(true, "The boot id could not be made ready to change", g.lendBootID)
	}
	renew(PartMachineID, "The machine id could not be written", func() error { return g.writeMachineID(id.MachineID) })
	if id.Hostname != "" {
		try(true, "The hostname could not be set", func() error { return g.Kernel.SetHostname(id.Hostname) })
		try(true, "/etc/hostname could not be written", func() error { return g.writeHostname(id.Hostname) })
		try(true, "/etc/hosts could not be written", func() error { return g.writeHosts(id.Hostname) })
	}
	if id.Restored {
		renew(PartHostKeys, "", func() error { return g.Keys.Renew("root@" + id.Hostname) })
	} else {
		g.Keys.Resume("root@" + id.Hostname)
	}
	// A restored guest without an interface keeps its lo as it was.
	try(!id.Restored || id.Network.Interface != "", "The network could not be set up", func() error { return g.Kernel.SetUpNetwork(ctx, id.Network) })
	try(id.Restored && id.Network.Interface != "", "The snapshot's neighbours are still known",
		func() error { return g.Kernel.ForgetNeighbours(ctx, id.Network) })
	nameservers := id.Network.Nameservers
	try(len(nameservers) > 0, "/etc/resolv.conf could not be written", func() error { return g.writeResolvConf(nameservers) })
	return out
}

var errNoneGiven = errors.New("the host gave none")

// addEntropy refuses to restore a guest for which the host has sent no entropy: it would draw what its copies draw.
func (g Guest) addEntropy(id Identity) error {
	if len(id.Entropy) > 0 {
		return g.Kernel.AddEntropy(id.Entropy)
	}
	if id.Restored {
		return errNoneGiven
	}
	return nil
}

func (g Guest) setClock(id Identity) error {
	if id.UnixTimeNs != 0 {
		return g.Kernel.SetClock(id.UnixTimeNs)
	}
	if id.Restored {
		return errNoneGiven
	}
	return nil
}
