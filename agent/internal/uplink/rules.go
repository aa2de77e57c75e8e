package uplink

import (
	"fmt"
	"strings"
)

// always are networks that no host sends anywhere: a program that connects to them reaches itself.
var always = []string{"0.0.0.0/8", "127.0.0.0/8", "255.255.255.255/32"}

// rules returns the nftables program that keeps a VM from these networks of the host, whatever its policy. pasta would
// connect to them as any program of the host, whose own firewall does not see a VM there.
func rules(card string, networks []string) string {
	elements := strings.Join(append(append([]string{}, always...), networks...), ", ")
	return fmt.Sprintf(`table inet hearth_host
delete table inet hearth_host
table inet hearth_host {
  set host { type ipv4_addr; flags interval; auto-merge; elements = { %s }; }
  chain forward {
    type filter hook forward priority filter - 10; policy accept;
    iifname "%s" ct direction original ip daddr @host reject with icmpx admin-prohibited
  }
  chain output {
    type filter hook output priority filter - 10; policy accept;
    oifname != { "lo", "%s" } ip daddr @host drop
  }
}
`, elements, card, card)
}
