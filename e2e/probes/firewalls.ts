/** Rules of other programs on a host with VMs, as iptables-nft(8) writes them for nft(8). */
import type { PathName } from "./table.ts";

/** Accepts everything before any other table. */
export const ACCEPT_ALL = `table inet accepting {
  chain prerouting { type filter hook prerouting priority -300; policy accept; accept; }
  chain input { type filter hook input priority -300; policy accept; accept; }
  chain forward { type filter hook forward priority -300; policy accept; accept; }
  chain output { type filter hook output priority -300; policy accept; accept; }
}
`;

export type Firewall = {
  readonly path: PathName;
  readonly program: string;
  /** Rules that docs/network.md says to add, so that packets of VMs are forwarded. */
  readonly allow: string;
};

export const FIREWALLS: readonly Firewall[] = [
  {
    path: "the firewall of Docker",
    program: `table ip filter {
  chain DOCKER { }
  chain DOCKER-ISOLATION-STAGE-1 {
    iifname "docker0" oifname != "docker0" counter jump DOCKER-ISOLATION-STAGE-2
    counter return
  }
  chain DOCKER-ISOLATION-STAGE-2 {
    oifname "docker0" counter drop
    counter return
  }
  chain DOCKER-USER { counter return; }
  chain FORWARD {
    type filter hook forward priority filter; policy drop;
    counter jump DOCKER-USER
    counter jump DOCKER-ISOLATION-STAGE-1
    oifname "docker0" ct state related,established counter accept
    oifname "docker0" counter jump DOCKER
    iifname "docker0" oifname != "docker0" counter accept
    iifname "docker0" oifname "docker0" counter accept
  }
}
table ip nat {
  chain DOCKER { iifname "docker0" counter return; }
  chain PREROUTING {
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local counter jump DOCKER
  }
  chain OUTPUT {
    type nat hook output priority -100; policy accept;
    ip daddr != 127.0.0.0/8 fib daddr type local counter jump DOCKER
  }
  chain POSTROUTING {
    type nat hook postrouting priority srcnat; policy accept;
    oifname != "docker0" ip saddr 172.17.0.0/16 counter masquerade
  }
}
`,
    allow: `insert rule ip filter DOCKER-USER oifname "hvm*" ct state related,established accept
insert rule ip filter DOCKER-USER iifname "hvm*" accept
`,
  },
  {
    path: "the firewall of ufw",
    program: `table ip filter {
  chain ufw-user-input { }
  chain ufw-user-forward { }
  chain ufw-before-input {
    iifname "lo" counter accept
    ct state related,established counter accept
    ct state invalid counter drop
    icmp type { destination-unreachable, time-exceeded, parameter-problem, echo-request } counter accept
    udp sport 67 udp dport 68 counter accept
    ip daddr 224.0.0.251 udp dport 5353 counter accept
    ip daddr 239.255.255.250 udp dport 1900 counter accept
    counter jump ufw-user-input
  }
  chain ufw-before-forward {
    ct state related,established counter accept
    icmp type { destination-unreachable, time-exceeded, parameter-problem, echo-request } counter accept
    counter jump ufw-user-forward
  }
  chain INPUT {
    type filter hook input priority filter; policy drop;
    counter jump ufw-before-input
  }
  chain FORWARD {
    type filter hook forward priority filter; policy drop;
    counter jump ufw-before-forward
  }
  chain OUTPUT { type filter hook output priority filter; policy accept; }
}
`,
    allow: `add rule ip filter ufw-user-forward iifname "hvm*" accept
`,
  },
];
