// Package identity gives the guest what makes it this guest: name, addresses, machine id, clock, entropy.
package identity

import (
	"context"
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

// Configure does all that it can, entropy first: what follows may draw from it. A guest without a part of its
// identity still runs, so failures are sentences for the host and not the end.
func (g Guest) Configure(ctx context.Context, id Identity) []string {
	var warnings []string
	try := func(wanted bool, sentence string, do func() error) {
		if !wanted {
			return
		}
		if err := do(); err != nil {
			warnings = append(warnings, fmt.Sprintf("%s: %v", sentence, err))
		}
	}
	try(len(id.Entropy) > 0, "The entropy could not be added", func() error { return g.Kernel.AddEntropy(id.Entropy) })
	try(id.UnixTimeNs != 0, "The clock could not be set", func() error { return g.Kernel.SetClock(id.UnixTimeNs) })
	try(id.Restored, "The boot id stays the snapshot's", g.renewBootID)
	try(!id.Restored, "The boot id could not be made ready to change", g.lendBootID)
	try(true, "The machine id could not be written", func() error { return g.writeMachineID(id.MachineID) })
	if id.Hostname != "" {
		try(true, "The hostname could not be set", func() error { return g.Kernel.SetHostname(id.Hostname) })
		try(true, "/etc/hostname could not be written", func() error { return g.writeHostname(id.Hostname) })
		try(true, "/etc/hosts could not be written", func() error { return g.writeHosts(id.Hostname) })
	}
	try(id.Restored, "The SSH host keys stay the snapshot's", func() error { return g.Keys.Renew("root@" + id.Hostname) })
	if !id.Restored {
		g.Keys.Resume("root@" + id.Hostname)
	}
	// One that goes on without an interface has its lo as it was.
	try(!id.Restored || id.Network.Interface != "", "The network could not be set up", func() error { return g.Kernel.SetUpNetwork(ctx, id.Network) })
	try(id.Restored && id.Network.Interface != "", "The snapshot's neighbours are still known",
		func() error { return g.Kernel.ForgetNeighbours(ctx, id.Network) })
	nameservers := id.Network.Nameservers
	try(len(nameservers) > 0, "/etc/resolv.conf could not be written", func() error { return g.writeResolvConf(nameservers) })
	return warnings
}
