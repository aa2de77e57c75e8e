package resolver

import (
	"errors"
	"net/netip"
	"time"
)

const (
	// keepMin and keepMax bound how long an address is reachable after an answer, whatever its TTL is: programs keep
	// addresses for longer than a TTL of seconds.
	keepMin = 5 * time.Minute
	keepMax = time.Hour
	// grace is added: the guest counts the TTL from a later moment.
	grace = 30 * time.Second
	// learnedMax is the limit of the addresses of one domain; it is the size of the sets.
	learnedMax = 4096
)

// memory has the addresses of each domain that are reachable, with the end of each.
type memory map[Domain]map[netip.Addr]time.Time

var errTooMany = errors.New("the domain has too many addresses")

// keep returns how long an address of a domain with this TTL, in seconds, is reachable.
func keep(domain Domain, ttl uint32) time.Duration {
	if domain.isNeighbour() {
		return neighbourKeep
	}
	return min(max(time.Duration(ttl)*time.Second, keepMin), keepMax) + grace
}

// needs tells whether an address has to be made reachable again, so that it outlives its TTL.
func (m memory) needs(domain Domain, address netip.Addr, ttl uint32, now time.Time) bool {
	end := m[domain][address]
	return end.Before(now.Add(time.Duration(min(ttl, ttlMax))*time.Second + grace/2))
}

// put remembers an address. It forgets those that have ended.
func (m memory) put(domain Domain, address netip.Addr, end, now time.Time) error {
	known := m[domain]
	if known == nil {
		known = map[netip.Addr]time.Time{}
		m[domain] = known
	}
	if _, isKnown := known[address]; !isKnown && len(known) >= learnedMax {
		for other, otherEnd := range known {
			if otherEnd.Before(now) {
				delete(known, other)
			}
		}
		if len(known) >= learnedMax {
			return errTooMany
		}
	}
	known[address] = end
	return nil
}

// only forgets the domains that a configuration does not have.
func (m memory) only(config Config) {
	for domain := range m {
		if !config.has(domain) {
			delete(m, domain)
		}
	}
}
