// Package identity gives the guest its identity: name, addresses, machine id, boot id, host keys, clock, entropy.
package identity

import (
	"context"
	"errors"
	"fmt"
)

// Identity is the host's choice. Empty fields keep the guest's values.
type Identity struct {
	Hostname   string
	UnixTimeNs int64
	Entropy    []byte
	MachineID  string // 32 hex digits.
	Network    Network
	// Restored says that the guest was restored: what distinguishes it from its copies is renewed.
	Restored bool
}

// Network is the interface that a guest may have beside lo.
type Network struct {
	MAC         string // Empty keeps the interface's.
	Interface   string
	Addresses   []string // With prefix lengths (CIDR).
	Gateway     string
	Nameservers []string
	Address6    string // Of IPv6, with a prefix length. Empty removes what the interface has.
	Gateway6    string
}

// Guest is the machine that is changed. Tests give it another root directory and another kernel.
type Guest struct {
	Root   string // The directory with etc; "/" in a guest.
	Kernel Kernel
	Keys   HostKeys
	// InitsMachineID is the machine id that the image's init, which has not started, writes itself if there is none: it
	// takes the missing file for its first boot (machine-id(5)), which it is. Empty if it writes none.
	InitsMachineID string
}

// HostKeys are the keys of the guest's SSH server; see hostkeys.Keys.
type HostKeys interface {
	Renew(comment string) error
	Resume(comment string)
}

// Kernel is the part of an identity that the kernel keeps.
type Kernel interface {
	SetHostname(name string) error
	SetClock(unixNs int64) error
	AddEntropy(seed []byte) error
	// SetUpNetwork removes what the interface has learned of neighbours, too.
	SetUpNetwork(ctx context.Context, network Network) error
	BootID() (text string, err error)
	// ShowBootID makes the file's text the kernel's boot id. Idempotent.
	ShowBootID(path string) error
}

// SetClock sets the real-time clock if it is wrong.
func (g Guest) SetClock(unixNs int64) error { return g.Kernel.SetClock(unixNs) }

// Part names a part of an identity that restored copies of one guest must not share.
type Part string

const (
	PartEntropy   Part = "entropy"
	PartClock     Part = "clock"
	PartBootID    Part = "boot id"
	PartMachineID Part = "machine id"
	PartHostKeys  Part = "SSH host keys"
)

// NotRenewed is a part of the snapshot's identity that a restored guest still has, and the reason.
type NotRenewed struct {
	Part  Part
	Cause error
}

func (n NotRenewed) Error() string { return fmt.Sprintf("%s: %v", n.Part, n.Cause) }

func (n NotRenewed) Unwrap() error { return n.Cause }

// Outcome lists what Configure could not do.
type Outcome struct {
	// Warnings are sentences about parts without which the guest can run.
	Warnings []string
	// NotRenewed is for restored guests only. A guest with any of these must not run.
	NotRenewed []NotRenewed
}

// Configure does all that it can, entropy first, because later steps may draw from it. A guest that has booted shares
// nothing with others and can run without a part of its identity, so its failures are warnings. A restored guest may be
// one of many copies: parts that tell copies apart and could not be renewed are in NotRenewed.
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
		try(true, "The boot id could not be made ready to change", g.prepareBootID)
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
	nameservers := id.Network.Nameservers
	try(len(nameservers) > 0, "/etc/resolv.conf could not be written", func() error { return g.writeResolvConf(nameservers) })
	return out
}

var errNoneGiven = errors.New("the host gave none")

// addEntropy fails for a restored guest if the host has sent no entropy: it would draw the same numbers as its copies.
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
