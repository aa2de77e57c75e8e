/**
 * Writes the nftables table that holds a VM's network policy. Loading it replaces the policy before in one transaction,
 * so each packet meets the one or the other. All text comes from arguments that were parsed. Pure.
 *
 * Each connection has a mark: the number of the policy, and the rule that decided. Packets with a mark of this policy
 * pass, and count for their rule. All other packets are decided by the rules, in both directions: a connection that an
 * earlier policy allowed and this one denies is cut, with the next packet of either end.
 */
import { COUNTED_SET, DECISIONS, ruleDecision, Verdicts } from "#helper/policy-verdicts.ts";
import { PRIVATE_RANGE, UPLINK, VM_ADDRESSES } from "#helper/vm-addresses.ts";
import { INSIDE } from "#model/inside-addresses.ts";
import { familyOf } from "#model/ip-address.ts";
import {
  checkOf,
  deniesIpv6,
  learnedDomainOf,
  networkFamily,
  SPECIAL_NETWORKS,
  targetOf,
} from "#model/network-policy.ts";
import type { NetworkPolicy, PolicyRule } from "#model/network-policy.ts";

export const POLICY_TABLE = "inet hearth";

/** Addresses of one rule for a domain; see learnedMax of agent/internal/resolver/memory.go. */
const NAME_ADDRESSES_MAX = 4096;

/** Connections of VMs on the same private networks: the host lets no others through. */
const FROM_PRIVATE = `ct original ip saddr ${PRIVATE_RANGE}`;

/** The surroundings of a policy on its host. */
export type Surroundings = {
  /**
   * The private networks that the VM is on, whose VMs it reaches unless a rule decides otherwise. $network0 is the first
   * in the program.
   */
  readonly networks: readonly string[];
  /**
   * The addresses of the host. No policy allows them, or those of other VMs: the host's own table denies them, too, but
   * other programs flush all tables at times.
   */
  readonly host: readonly string[];
};

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
    ...decisions(policy, names, verdicts, around.networks),
    ...forwarding(verdicts, around.networks.length > 0),
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
    const domain = learnedDomainOf(rule);
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
function decisions(
  policy: NetworkPolicy,
  names: Names,
  verdicts: Verdicts,
  networks: readonly string[],
): string[] {
  const hasPrivate = networks.length > 0;
  const { rules, default: action } = policy;
  const ordered = rules.map((rule, index) => ({ rule, index }));
  const linesOf = ({ rule, index }: { readonly rule: PolicyRule; readonly index: number }): string[] =>
    matchesOf(rule, index, networks).map(
      (match) => `    ${match} ${verdicts.decide(rule.action, ruleDecision(index))}`,
    );
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
    // These alone are about the host, which all that follows is not.
    ...ordered.filter(({ rule }) => targetOf(rule).kind === "host").flatMap(linesOf),
    ...FAMILIES.flatMap(({ address, host, vms }) =>
      [`@${host}`, vms].map((to) => `    ct original ${address} ${to} ${special}`),
    ),
    // Checked connections were redirected, unless an earlier policy allowed them directly.
    ...ordered
      .filter(({ rule }) => targetOf(rule).kind !== "host" && checkOf(rule) === undefined)
      .flatMap(linesOf),
    ...(hasPrivate ? [`    ct original ip daddr ${PRIVATE_RANGE} ${allowPrivate}`] : []),
    ...FAMILIES.map((family) => `    ct original ${family.address} @${family.special} ${special}`),
    ...(deniesIpv6(policy) ? [`    meta nfproto ipv6 ${special}`] : []),
    `    ${verdicts.decide(action, DECISIONS.default)}`,
    "  }",
  ];
}

/**
 * Returns the matches for the connections that a rule is about: one for each family of addresses that it has.
 * @param networks the private networks that the VM is on
 */
function matchesOf(rule: PolicyRule, index: number, networks: readonly string[] = []): string[] {
  return FAMILIES.flatMap((family) => {
    const to = addressesOf(rule, index, family, networks);
    return to === undefined ? [] : [overProtocol(`ct original ${to}`, rule, family)];
  });
}

/** Returns a match for the addresses of one family that a rule is about, if there are any. */
function addressesOf(
  rule: PolicyRule,
  index: number,
  family: Family,
  networks: readonly string[],
): string | undefined {
  const { name, address, special } = family;
  const target = targetOf(rule);
  const names = `@${nameSet(index, name)}`;
  switch (target.kind) {
    case "network":
      return networkFamily(rule) === name ? `${address} ${target.network}` : undefined;
    case "domain":
      return `${address} != @${special} ct original ${address} ${names}`;
    case "host":
      return name === "ipv4" ? `${address} ${VM_ADDRESSES.gateway}` : undefined;
    case "private": {
      const at = networks.indexOf(target.name);
      return name === "ipv4" && at !== -1 ? `${address} $network${at}` : undefined;
    }
    case "vm":
      return name === "ipv4" ? `${address} ${PRIVATE_RANGE} ct original ${address} ${names}` : undefined;
  }
}

function overProtocol(network: string, { protocol, ports }: PolicyRule, family: Family): string {
  if (protocol === undefined) return network;
  const over = protocol === "icmp" ? family.icmp : checkOf({ protocol }) === undefined ? protocol : "tcp";
  const match = `${network} meta l4proto ${over}`;
  return ports === undefined ? match : `${match} ct original proto-dst ${ports.first}-${ports.last}`;
}
