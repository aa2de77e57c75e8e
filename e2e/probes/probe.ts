/** A probe over a network policy is one row of the tables of docs/network-probes.md. */
import type { NetworkPolicy } from "#model/network-policy.ts";
import { policyOf } from "#model/policy-flags.ts";
import type { Packet } from "./packets.ts";

/** Verdicts about a packet that the policy denies, with what the guest sees of it. */
export const DENIED = {
  rejected: "denied: the guest is told so at once, and nothing passes the VM's network namespace or its host",
  dropped: "denied: nothing passes the VM's network namespace, and the guest is told nothing",
  refused: "denied: the resolver answers REFUSED",
  empty: "denied: the resolver answers without an address",
  reset: "denied: the connection is reset",
  forbidden: "denied: the HTTP request gets the status 403",
} as const;

/** Verdicts about a packet that the policy allows. */
export const ALLOWED = {
  answered: "allowed: the peer answers",
  arrives: "allowed: the peer's interface receives the packet",
  untrusted: "allowed: the client itself refuses the peer's certificate",
} as const;

export type Verdict = keyof typeof DENIED | keyof typeof ALLOWED;

/** The packet that shows that the probe works: it differs in one thing, and is allowed. */
export type Twin = {
  readonly packet: Packet;
  /** That of the probe unless given. */
  readonly policy?: PolicyName;
  readonly verdict: keyof typeof ALLOWED;
};

export type Probe = {
  readonly id: string;
  /** A sentence in plain words. */
  readonly says: string;
  readonly policy: PolicyName;
  readonly packet: Packet;
  readonly verdict: Verdict;
  readonly twin: Twin;
  /** Names that the guest asks for before, which makes their addresses known. */
  readonly asks?: readonly string[] | undefined;
};

/** The policies that probes are about, as the flags of `hearth network set`, and rules of the API. */
export const POLICIES = {
  internet: { flags: "--network nat", policy: flags("internet") },
  closed: { flags: "--network deny-all", policy: flags("deny-all") },
  open: { flags: "--network allow-all", policy: flags("allow-all") },
  rules: {
    flags:
      "--network deny-all, with rules in this order: deny 198.51.100.128/25, allow 198.51.100.0/24:7-19/tcp, allow 198.51.100.0/24:7/udp, allow 10.1.2.3/32:80/tcp, allow 198.51.100.7/32/icmp, allow 203.0.113.2/32, allow 198.18.0.0/16",
    policy: {
      default: "deny",
      rules: [
        { action: "deny", to: "198.51.100.128/25" },
        { action: "allow", to: "198.51.100.0/24", protocol: "tcp", ports: { first: 7, last: 19 } },
        { action: "allow", to: "198.51.100.0/24", protocol: "udp", ports: { first: 7, last: 7 } },
        { action: "allow", to: "10.1.2.3/32", protocol: "tcp", ports: { first: 80, last: 80 } },
        { action: "allow", to: "198.51.100.7/32", protocol: "icmp" },
        { action: "allow", to: "203.0.113.2/32" },
        { action: "allow", to: "198.18.0.0/16" },
      ],
    },
  },
  names: {
    flags:
      "--network deny-all --allow-domain '*.example:80-443' --allow-domain one.test --allow-domain '*.checked.test:8443/tls' --allow-domain '*.checked.test/http' --allow-domain '*.quic.test:443/udp'",
    policy: flags("deny-all", [
      "*.example:80-443",
      "one.test",
      "*.checked.test:8443/tls",
      "*.checked.test/http",
      "*.quic.test:443/udp",
    ]),
  },
} as const satisfies Readonly<Record<string, { flags: string; policy: NetworkPolicy }>>;

export type PolicyName = keyof typeof POLICIES;

function flags(
  base: "internet" | "allow-all" | "deny-all",
  allowDomain: readonly string[] = [],
): NetworkPolicy {
  return policyOf({ base, allow: [], deny: [], allowDomain });
}
