package resolver

import "strings"

// Domain is a name in lower case without a dot at its end, such as deb.debian.org; or "*." and one, which matches all
// names below it, but not the name itself.
type Domain string

// Matches tells whether a name, in lower case and without a dot at its end, is one of the domain.
func (d Domain) Matches(name string) bool {
	below, isPattern := strings.CutPrefix(string(d), "*")
	if isPattern {
		return strings.HasSuffix(name, below) && len(name) > len(below)
	}
	return name == string(d)
}

// normal returns a name of a query as domains have it.
func normal(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, "."))
}
