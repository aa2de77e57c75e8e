// Package resolver answers the names that a VM asks for, and lets the VM reach the addresses in these answers.
//
// It is two processes in the network namespace of the VM. Neither is root, and both have the uid of the VM:
//
//	guest ── DNS ──▶ parser ── DNS ──▶ resolver of the host
//	                   │ "these addresses"
//	                   ▼
//	                 guard ── netlink ──▶ nftables sets of the VM's policy
//	                   ▲
//	                   │ control socket
//	                 helper of hearthd
//
// The parser reads what the guest sends. It has no capability, and a root directory with the programs of Hearth alone.
// The guard has CAP_NET_ADMIN, and reads messages of the parser, which it does not trust.
package resolver

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
)

const (
	// RulesMax is the limit of rules of one configuration; see policyRulesMax in src/model/limits.ts.
	RulesMax = 1024
	// MessageMaxBytes is the limit of one message, which is a line of JSON.
	MessageMaxBytes = 1 << 20
)

// Rule is a rule of the policy that names a domain.
type Rule struct {
	Domain Domain `json:"domain"`
	// Set and Set6 are the nftables sets with the IPv4 and IPv6 addresses that the rule allows.
	Set  string `json:"set"`
	Set6 string `json:"set6,omitempty"`
	// Check is empty if an address is enough.
	Check Check `json:"check,omitempty"`
	// First and Last are the ports of a rule with a check.
	First uint16 `json:"first,omitempty"`
	Last  uint16 `json:"last,omitempty"`
}

// Config is what the policy of the VM says about names.
type Config struct {
	// Upstream is the resolver that knows the answers: an address with a port. Without one, only names of VMs are known.
	Upstream netip.AddrPort `json:"upstream"`
	Rules    []Rule         `json:"rules"`
	// IPv6 is true if the guest can reach IPv6 addresses. Otherwise no answer has any.
	IPv6 bool `json:"ipv6"`
	// RefuseOthers is true if only names of the rules are answered.
	RefuseOthers bool `json:"refuseOthers"`
	// Never has the networks whose addresses are removed from all answers.
	Never []netip.Prefix `json:"never"`
	// Guest is the address that the guest's own name has.
	Guest netip.Addr `json:"guest"`
}

var setName = regexp.MustCompile(`^[a-z][a-z0-9]{0,30}$`)

// Check returns an error for a configuration that no policy has.
func (c Config) Check() error {
	if c.Upstream != (netip.AddrPort{}) && c.Upstream.Port() == 0 {
		return fmt.Errorf("upstream: %v is no address with a port", c.Upstream)
	}
	if len(c.Rules) > RulesMax {
		return fmt.Errorf("rules: %d are more than %d", len(c.Rules), RulesMax)
	}
	for _, rule := range c.Rules {
		if !setName.MatchString(rule.Set) {
			return fmt.Errorf("rules: %q is no name of a set", rule.Set)
		}
		if c.IPv6 && !setName.MatchString(rule.Set6) {
			return fmt.Errorf("rules: %q is no name of a set", rule.Set6)
		}
	}
	return nil
}

// domainsOf returns the domains that match a name, without repetitions.
func (c Config) domainsOf(name string) []Domain {
	var found []Domain
	seen := map[Domain]bool{}
	for _, rule := range c.Rules {
		if !seen[rule.Domain] && rule.Domain.Matches(name) {
			seen[rule.Domain] = true
			found = append(found, rule.Domain)
		}
	}
	return found
}

// has tells whether a rule is for a domain.
func (c Config) has(domain Domain) bool {
	return slices.ContainsFunc(c.Rules, func(rule Rule) bool { return rule.Domain == domain })
}

// setsOf returns the sets of the rules for a domain that have addresses of a family.
func (c Config) setsOf(domain Domain, address netip.Addr) []string {
	var sets []string
	for _, rule := range c.Rules {
		if rule.Domain != domain {
			continue
		}
		if address.Is4() {
			sets = append(sets, rule.Set)
		} else {
			sets = append(sets, rule.Set6)
		}
	}
	return sets
}

// mayLearn tells whether an answer may have the address, which then is reachable.
func (c Config) mayLearn(address netip.Addr) bool {
	isUsable := address.Is4() || c.IPv6 && address.Is6() && !address.Is4In6() && address.Zone() == ""
	return isUsable && !c.isNever(address)
}

// isNever tells whether no answer may have the address.
func (c Config) isNever(address netip.Addr) bool {
	for _, network := range c.Never {
		if network.Contains(address) {
			return true
		}
	}
	return false
}
