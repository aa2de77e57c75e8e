// Package vmnet makes the network of a VM, and removes it:
//
//	guest eth0 ── tap0 ─ [ namespace: policy, translation ] ─ uplink ── hvm<id> ─ [ host: translation ] ─ outside
//
// The namespace is a file, and the links between it and the host end with it. All of it takes one start of this
// program, and one of nft(8), which puts the policy in force; see src/helper/vm-networks.ts, which writes the rules.
package vmnet

import (
	"errors"
	"net/netip"
)

// Made says where a network is.
type Made struct {
	// Path is the file of the namespace.
	Path string `json:"path"`
	// Link is the host's end.
	Link string `json:"link"`
	// PublishTable is the name of the tables on the host that publish ports, one for each family of addresses.
	PublishTable string `json:"publishTable"`
	Host         Host   `json:"host"`
}

// Host is what all networks of a host share.
type Host struct {
	// Dir is the directory of the namespaces, and of the lock of all that change the host.
	Dir string `json:"dir"`
	// LinkPrefix is the beginning of the names of the host's ends.
	LinkPrefix string `json:"linkPrefix"`
	// Table is the name of the host's table, of family inet.
	Table string `json:"table"`
	// PrivateRange contains all private networks. It is a /16.
	PrivateRange netip.Prefix `json:"privateRange"`
}

// Network is a network to make.
type Network struct {
	Made
	// UID is the user that may open the TAP device.
	UID    uint32 `json:"uid"`
	Inside Inside `json:"inside"`
	// Uplink is the namespace's end of the link to the host.
	Uplink string `json:"uplink"`
	// Gateway is the address of the host's end.
	Gateway netip.Addr `json:"gateway"`
	// Addresses are tried in turn. The VM gets the first to which the host has no route.
	Addresses []netip.Addr `json:"addresses"`
	// IPv6 is true if the host forwards IPv6 for the VM, too. Its IPv6 address is in Network6, and ends with its IPv4
	// address, so that one lease is for both.
	IPv6     bool         `json:"ipv6"`
	Network6 netip.Prefix `json:"network6"`
	Private  Private      `json:"private"`
	// Rules is the nftables program for the namespace. In it, $address and $address6 are the VM's addresses on the host,
	// and $network0 and $address0 are the first private network and the address there.
	Rules string `json:"rules"`
	// PublishRules is the one for the host that publishes ports, or empty.
	PublishRules string      `json:"publishRules"`
	HostRules    []HostRules `json:"hostRules"`
}

// Inside is the guest's end of the namespace.
type Inside struct {
	Tap string `json:"tap"`
	// MAC, Address and Address6 are those of the TAP device: the guest's gateway.
	MAC      string       `json:"mac"`
	Address  netip.Prefix `json:"address"`
	Address6 netip.Prefix `json:"address6"`
	// GuestMAC and Guest6 are those of the guest.
	GuestMAC string     `json:"guestMac"`
	Guest6   netip.Addr `json:"guest6"`
}

// HostRules is an nftables program for the table of the host, which has a chain with the name of the version.
type HostRules struct {
	// IPv4 and IPv6 say for which families Hearth made the host a router, which then forwards for VMs only.
	IPv4    bool   `json:"ipv4"`
	IPv6    bool   `json:"ipv6"`
	Version string `json:"version"`
	Rules   string `json:"rules"`
}

// ErrNoAddress is returned when the host has routes to all addresses that were tried.
var ErrNoAddress = errors.New("all addresses are in use")
