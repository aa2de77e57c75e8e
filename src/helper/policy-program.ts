/**
 * Writes the nftables table that holds a VM's network policy. Loading it replaces the policy before in one transaction,
 * so each packet meets the one or the other. All text comes from arguments that were parsed. Pure.
 *
 * Each connection has a mark: the number of the policy, and the rule that decided. Packets with a mark of this policy
 * pass, and count for their rule. All other packets are decided by the rules, in both directions: a connection that an
 * earlier policy allowed and this one denies is cut, with the next packet of either end.
 */
import { COUNTED_SET, DECISIONS, ruleDecision, Verdicts } from "#helper/policy-verdicts.ts";
import { INSIDE, OWN_NETWORK6 } from "#model/inside-addresses.ts";
import { familyOf } from "#model/ip-address.ts";
import { checkOf, deniesIpv6, domainOf, networkFamily, SPECIAL_NETWORKS } from "#model/network-policy.ts";
import type { NetworkPolicy, PolicyRule } from "#model/network-policy.ts";

/** The VM's end of the link between its namespace and the host. */
export const UPLINK = "uplink";
export const POLICY_TABLE = "inet hearth";

/** Addresses of one rule for a domain; see learnedMax of agent/internal/resolver/memory.go. */
const NAME_ADDRESSES_MAX = 4096;

/** Contains the private networks, a /24 each, and the address of each VM on one. */
export const PRIVATE_RANGE = "198.19.0.0/16";
/** Connections of VMs on the same private networks: the host lets no others through. */
const FROM_PRIVATE = `ct original ip saddr ${PRIVATE_RANGE}`;

/** The surroundings of a policy on its host. */
export type Surroundings = {
  /** Whether the VM is on private networks, whose VMs it reaches unless a rule decides otherwise. */
  readonly hasPrivate: boolean;
  /**
   * The addresses of the host. No policy allows them, or those of other VMs: the host's own table denies them, too, but
   * other programs flush all tables at times.
   */
  readonly host: readonly string[];
};

/** Contains the addresses of each running VM, which the host translates to its own. */
export const VM_ADDRESSES = {
  network: "198.18.0.0/16",
  gateway: "198.18.0.1",
  /** Contains the IPv6 addresses, each of which ends with the IPv4 address: one lease is for both. */
  network6: `${OWN_NETWORK6}:1::/64`,
} as const;

/** A family of addresses, as nftables has it. Sets of addresses are of one family. */
type Family = {
  readonly name: ReturnType<typeof familyOf>;
  readonly address: "ip daddr" | "ip6 daddr";
  readonly type: string;
  readonly special: string;
  readonly host: string;
  /** Contains the addresses of all VMs. */
  readonly vms: string;
  readonly icmp: string;
};

const IPV4: Family = {
  name: "ipv4",
  address: "ip daddr",
  type: "ipv4_addr",
  special: "special",
  host: "host",
  vms: VM_ADDRESSES.network,
  icmp: "icmp",
};
const IPV6: Family = {
  name: "ipv6",
  address: "ip6 daddr",
  type: "ipv6_addr",
  special: "special6",
  host: "host6",
  vms: VM_ADDRESSES.network6,
  icmp: "icmpv6",
};
const FAMILIES = [IPV4, IPV6];

/**
 * Returns the name of the set with the addresses of one family that a rule for a domain allows, by its index.
 */
export function nameSet(index: number, family: Family["name"]): string {
  return family === "ipv6" ? `names${index}v6` : `names${index}`;
}

/** An address that a domain's names have, for this many more seconds. */
export type LearnedAddress = {
  readonly domain: string;
  readonly address: string;
  readonly seconds: number;
};

/** The treatment of the guest's queries for names. */
export type Names =
  | { readonly kind: "forwarded"; readonly resolver: string }
  /** The namespace has a resolver of its own, which asks that of the host, and knows these addresses already. */
  | {
      readonly kind: "answered";
      readonly resolver: string | undefined;
      readonly learned: readonly LearnedAddress[];
    }
  | { readonly kind: "none" };

/** The ports and the group of the resolver, for connections that it checks: see agent/internal/resolver/start.go. */
const CHECKERS = { tls: 8443, http: 8080 } as const;
const RESOLVER_GID = 65_534;

/** Queries that the namespace's own resolver takes, in a second and at once. */
const QUERIES = { perS: 1_000, burst: 200 } as const;

/**
 * Returns the program that replaces the policy.
 * @param number differs from the one before
 */
export function policyProgram(
  policy: NetworkPolicy,
  names: Names,
  number: number,
  around: Surroundings,
): string {
  const verdicts = new Verdicts(policy, number);
  return [
    `table ${POLICY_TABLE}`,
    `delete table ${POLICY_TABLE}`,
    `table ${POLICY_TABLE} {`,
    `  set ${COUNTED_SET} { type mark; counter; elements = { ${verdicts.elements()} }; }`,
    ...FAMILIES.map(specialSet),
    ...FAMILIES.map((family) => hostSet(family, around.host)),
    ...nameSets(policy, names),
    ...forwardedQueries(names),
    ...redirections(policy),
    "  chain cut {",
    `    ct mark set ${verdicts.cut}`,
    `    iifname "${INSIDE.tap}" meta l4proto tcp reject with tcp reset`,
    "    drop",
    "  }",
    "  chain allow {",
    `    ct mark @${COUNTED_SET} accept`,
    "  }",
    "  chain deny {",
    `    ct mark @${COUNTED_SET} ct state established goto cut`,
    "    reject with icmpx admin-prohibited",
    "  }",
    ...decisions(policy, names, verdicts, around.hasPrivate),
    ...forwarding(verdicts, around.hasPrivate),
    "  chain input {",
    "    type filter hook input priority filter; policy drop;",
    // The guest looks for its gateway. A packet that was forwarded has a smaller limit (RFC 4861).
    `    iifname "${INSIDE.tap}" icmpv6 type nd-neighbor-solicit ip6 hoplimit 255 accept`,
    ...(names.kind === "answered" ? answeredQueries(verdicts) : []),
    ...checkedConnections(policy, verdicts),
    // Answers to processes of the namespace that have connected to published ports: see pasta-program.ts.
    `    iifname "${INSIDE.tap}" ct direction reply ct status dnat ${verdicts.allow(DECISIONS.published)}`,
    "    counter reject with icmpx admin-prohibited",
    "  }",
    ...output(policy, names, verdicts),
    "}",
    "",
  ].join("\n");
}

/** Returns the chain for all packets between the guest and the host. */
function forwarding(verdicts: Verdicts, hasPrivate: boolean): string[] {
  const { tap } = INSIDE;
  const comesIn = `iifname "${UPLINK}" oifname "${tap}" ct direction original ct status dnat`;
  return [
    "  chain forward {",
    "    type filter hook forward priority filter; policy drop;",
    // No rule matches what belongs to no connection.
    "    ct state invalid,untracked drop",
    `    ct mark ${verdicts.cut} goto cut`,
    `    ct state established,related ct mark ${verdicts.allowed} goto allow`,
    // An error about a connection that is not decided yet.
    "    ct state related drop",
    `    iifname "${tap}" oifname "${UPLINK}" goto decide`,
    ...(hasPrivate ? [`    ${comesIn} ${FROM_PRIVATE} ${verdicts.allow(DECISIONS.private)}`] : []),
    `    ${comesIn} ${verdicts.allow(DECISIONS.published)}`,
    `    iifname "${UPLINK}" oifname "${tap}" ct state established goto decide`,
    "  }",
  ];
}

/** Returns the set of the host's addresses of one family. */
function hostSet({ name, type, host }: Family, addresses: readonly string[]): string {
  const ofFamily = addresses.filter((address) => familyOf(address) === name).join(", ");
  return `  set ${host} { type ${type};${ofFamily === "" ? "" : ` elements = { ${ofFamily} };`} }`;
}

function specialSet({ name, type, special }: Family): string {
  const networks = SPECIAL_NETWORKS.filter((network) => familyOf(network) === name);
  return `  set ${special} { type ${type}; flags interval; elements = { ${networks.join(", ")} }; }`;
}

/** Returns the sets of the rules for domains, with what is known already. */
function nameSets({ rules }: NetworkPolicy, names: Names): string[] {
  return rules.flatMap((rule, index) => {
    const domain = domainOf(rule);
    if (domain === undefined) return [];
    const learned = names.kind === "answered" ? names.learned.filter((one) => one.domain === domain) : [];
    return FAMILIES.map(({ name, type }) => {
      const ofFamily = learned.filter(({ address }) => familyOf(address) === name);
      const elements = ofFamily.map(({ address, seconds }) => `${address} timeout ${seconds}s`).join(", ");
      const known = elements === "" ? "" : ` elements = { ${elements} };`;
      return `  set ${nameSet(index, name)} { type ${type}; flags timeout; size ${NAME_ADDRESSES_MAX};${known} }`;
    });
  });
}

/** Returns the chain that sends queries to the host's resolver. */
function forwardedQueries(names: Names): string[] {
  if (names.kind !== "forwarded") return [];
  const toResolver = ["udp", "tcp"].map(
    (protocol) =>
      `    iifname "${INSIDE.tap}" ip daddr ${INSIDE.gateway} ${protocol} dport 53 dnat ip to ${names.resolver}`,
  );
  return [
    "  chain queries {",
    "    type nat hook prerouting priority dstnat; policy accept;",
    ...toResolver,
    "  }",
  ];
}

/**
 * Returns the chain that redirects new connections to a check. The rules are in their order: one that is decided by an
 * earlier rule is not checked.
 */
function redirections({ rules }: NetworkPolicy): string[] {
  const last = rules.findLastIndex((rule) => checkOf(rule) !== undefined);
  if (last === -1) return [];
  const lines = rules.slice(0, last + 1).flatMap((rule, index) => {
    const check = checkOf(rule);
    const verdict = check === undefined ? "accept" : `redirect to :${CHECKERS[check]}`;
    return matchesOf(rule, index).map((match) => `    iifname "${INSIDE.tap}" ${match} ${verdict}`);
  });
  return [
    "  chain checks {",
    "    type nat hook prerouting priority dstnat; policy accept;",
    ...lines,
    "  }",
  ];
}

/** Returns the rules for connections of the guest that were redirected to a check. */
function checkedConnections({ rules }: NetworkPolicy, verdicts: Verdicts): string[] {
  const lines = rules.flatMap((rule, index) => {
    const check = checkOf(rule);
    if (check === undefined) return [];
    const redirected = `iifname "${INSIDE.tap}" tcp dport ${CHECKERS[check]} ct status dnat`;
    const verdict = verdicts.allow(ruleDecision(index));
    return matchesOf(rule, index).map((match) => `    ${redirected} ${match} ${verdict}`);
  });
  if (lines.length === 0) return [];
  const known = `iifname "${INSIDE.tap}" ct state established ct mark ${verdicts.allowed}`;
  return [`    ${known} goto allow`, ...lines];
}

/** Returns the rules for queries to the namespace's own resolver, and for what it asks itself. */
function answeredQueries(verdicts: Verdicts): string[] {
  const { tap, gateway } = INSIDE;
  const toResolver = `iifname "${tap}" ip daddr ${gateway}`;
  const inTime = `limit rate ${QUERIES.perS}/second burst ${QUERIES.burst} packets`;
  return [
    `    ${toResolver} udp dport 53 ${inTime} ${verdicts.allow(DECISIONS.resolver)}`,
    `    ${toResolver} udp dport 53 drop`,
    `    ${toResolver} tcp dport 53 ${verdicts.allow(DECISIONS.resolver)}`,
    `    iifname "${UPLINK}" ct state established,related accept`,
  ];
}

/**
 * Returns the chain for what processes of the namespace send. A VMM that was taken over could open sockets there, which
 * no other chain sees.
 */
function output({ rules }: NetworkPolicy, names: Names, verdicts: Verdicts): string[] {
  const queries =
    names.kind === "answered" && names.resolver !== undefined
      ? ["udp", "tcp"].map((protocol) => `    ip daddr ${names.resolver} ${protocol} dport 53 accept`)
      : [];
  const checked = rules.flatMap((rule, index) => {
    if (checkOf(rule) === undefined) return [];
    const sent = `meta skgid ${RESOLVER_GID}`;
    const mark = verdicts.mark(ruleDecision(index));
    return matchesOf(rule, index).map((match) => `    ${sent} ${match} ct mark set ${mark} accept`);
  });
  // The last packets of a connection have no process any more.
  if (checked.length > 0)
    checked.unshift(
      ...FAMILIES.map(({ address, host }) => `    ${address} @${host} drop`),
      `    ct state established ct mark ${verdicts.allowed} accept`,
    );
  return [
    "  chain output {",
    "    type filter hook output priority filter; policy drop;",
    `    oifname { "${INSIDE.tap}", "lo" } accept`,
    // Errors about what comes in, by the kernel: a process would need a raw socket for them.
    "    icmp type { destination-unreachable, time-exceeded, parameter-problem } accept",
    "    icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept",
    ...queries,
    ...checked,
    "    counter",
    "  }",
  ];
}

/**
 * Returns the chain that decides about packets of both directions, by where their connection was to go. What the
 * namespace translates is allowed: queries for names, which the guest began, and connections to published ports.
 */
function decisions(policy: NetworkPolicy, names: Names, verdicts: Verdicts, hasPrivate: boolean): string[] {
  const { rules, default: action } = policy;
  const { guest, guest6 } = INSIDE;
  const allowPrivate = verdicts.allow(DECISIONS.private);
  const special = verdicts.decide("deny", DECISIONS.special);
  const queries = `    ct status dnat ct original ip saddr ${guest} ${verdicts.allow(DECISIONS.resolver)}`;
  return [
    "  chain decide {",
    // The queries of an earlier policy must not pass by the namespace's own resolver.
    ...(names.kind === "forwarded" ? [queries] : []),
    ...(hasPrivate ? [`    ct status dnat ${FROM_PRIVATE} ${allowPrivate}`] : []),
    `    ct status dnat ct original ip saddr != ${guest} ${verdicts.allow(DECISIONS.published)}`,
    `    ct status dnat ct original ip6 saddr != ${guest6} ${verdicts.allow(DECISIONS.published)}`,
    ...FAMILIES.flatMap(({ address, host, vms }) =>
      [`@${host}`, vms].map((to) => `    ct original ${address} ${to} ${special}`),
    ),
    ...rules.flatMap((rule, index) =>
      // Checked connections were redirected, unless an earlier policy allowed them directly.
      checkOf(rule) === undefined
        ? matchesOf(rule, index).map(
            (match) => `    ${match} ${verdicts.decide(rule.action, ruleDecision(index))}`,
          )
        : [],
    ),
    ...(hasPrivate ? [`    ct original ip daddr ${PRIVATE_RANGE} ${allowPrivate}`] : []),
    ...FAMILIES.map((family) => `    ct original ${family.address} @${family.special} ${special}`),
    ...(deniesIpv6(policy) ? [`    meta nfproto ipv6 ${special}`] : []),
    `    ${verdicts.decide(action, DECISIONS.default)}`,
    "  }",
  ];
}

/** Returns the matches for the connections that a rule is about: one for each family of addresses that it has. */
function matchesOf(rule: PolicyRule, index: number): string[] {
  const family = networkFamily(rule);
  return FAMILIES.filter(({ name }) => family === undefined || family === name).map((each) =>
    matchOf(rule, index, each),
  );
}

function matchOf({ to, protocol, ports }: PolicyRule, index: number, family: Family): string {
  const address = `ct original ${family.address}`;
  const network =
    domainOf({ to }) === undefined
      ? `${address} ${to}`
      : `${address} != @${family.special} ${address} @${nameSet(index, family.name)}`;
  if (protocol === undefined) return network;
  const over = protocol === "icmp" ? family.icmp : checkOf({ protocol }) === undefined ? protocol : "tcp";
  const match = `${network} meta l4proto ${over}`;
  return ports === undefined ? match : `${match} ct original proto-dst ${ports.first}-${ports.last}`;
}
