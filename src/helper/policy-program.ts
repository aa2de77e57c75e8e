/**
 * Writes the nftables table that holds a VM's network policy. Loading it replaces the policy before in one transaction,
 * so each packet meets the one or the other. All text comes from arguments that were parsed. Pure.
 *
 * Each connection has a mark: the number of the policy, and the rule that decided. Packets with a mark of this policy
 * pass, and count for their rule. All other packets are decided by the rules, in both directions: a connection that an
 * earlier policy allowed and this one denies is cut, with the next packet of either end.
 */
import { INSIDE } from "#model/inside-addresses.ts";
import { SPECIAL_NETWORKS } from "#model/network-policy.ts";
import type { NetworkPolicy, PolicyRule } from "#model/network-policy.ts";

/** The VM's end of the link between its namespace and the host. */
export const UPLINK = "uplink";
export const POLICY_TABLE = "inet hearth";

/** Policies have numbers from 1 up to this. */
export const POLICY_NUMBER_MAX = 0xf_ffff;
/** The marks of one policy, each of which tells the rule. */
const RULES = 0x1000;
/** The rule of a connection that was cut. */
const CUT = 0xfff;

/** The counters that every policy has, beside those of its rules. */
export const COUNTER = {
  resolver: "resolver",
  special: "special",
  default: "default",
  published: "published",
} as const;

/** Returns the name of the counter of a rule, by its index. */
export function ruleCounter(index: number): string {
  return `rule${index}`;
}

/** The direction of a packet: from the guest, or an answer to it. */
type Way = "from" | "to";

/** The verdicts of one policy, each of which counts, and marks what it allows. */
class Verdicts {
  readonly counters: readonly string[];
  readonly #first: number;

  constructor({ rules }: NetworkPolicy, number: number) {
    const { resolver, special, default: other, published } = COUNTER;
    this.counters = [resolver, ...rules.map((_, index) => ruleCounter(index)), special, other, published];
    this.#first = number * RULES;
  }

  /** The mark of a connection that was cut. */
  get cut(): string {
    return this.#mark(CUT);
  }

  /** The marks of connections that the policy allows. */
  get allowed(): string {
    return `${this.#mark(0)}-${this.#mark(CUT - 1)}`;
  }

  /** Returns the elements of the map from marks to counters. */
  elements(): string {
    return this.counters.map((name, rule) => `${this.#mark(rule)} : "${name}"`).join(", ");
  }

  allow(counter: string): string {
    return `ct mark set ${this.#mark(this.counters.indexOf(counter))} counter name "${counter}" accept`;
  }

  decide(action: PolicyRule["action"], counter: string): string {
    return action === "allow" ? this.allow(counter) : `counter name "${counter}" goto deny`;
  }

  #mark(rule: number): string {
    return `0x${(this.#first + rule).toString(16)}`;
  }
}

/**
 * Returns the program that replaces the policy.
 * @param number differs from the one before
 */
export function policyProgram(policy: NetworkPolicy, number: number): string {
  const verdicts = new Verdicts(policy, number);
  const { tap } = INSIDE;
  const [fromGuest, toGuest] = [
    `iifname "${tap}" oifname "${UPLINK}"`,
    `iifname "${UPLINK}" oifname "${tap}"`,
  ];
  return [
    `table ${POLICY_TABLE}`,
    `delete table ${POLICY_TABLE}`,
    `table ${POLICY_TABLE} {`,
    ...verdicts.counters.map((name) => `  counter ${name} { }`),
    `  map counted { type mark : counter; elements = { ${verdicts.elements()} }; }`,
    "  chain cut {",
    `    ct mark set ${verdicts.cut}`,
    `    iifname "${tap}" meta l4proto tcp reject with tcp reset`,
    "    drop",
    "  }",
    "  chain deny {",
    "    ct state established,related goto cut",
    "    reject with icmpx admin-prohibited",
    "  }",
    ...decisions("from", policy, verdicts),
    ...decisions("to", policy, verdicts),
    "  chain forward {",
    "    type filter hook forward priority filter; policy drop;",
    `    ct mark ${verdicts.cut} goto cut`,
    `    ct state established,related ct mark ${verdicts.allowed} counter name ct mark map @counted accept`,
    `    ${fromGuest} goto from_guest`,
    `    ${toGuest} ct direction original ct status dnat ${verdicts.allow(COUNTER.published)}`,
    `    ${toGuest} ct state established,related goto to_guest`,
    "  }",
    "  chain input {",
    "    type filter hook input priority filter; policy drop;",
    "    counter reject with icmpx admin-prohibited",
    "  }",
    "}",
    "",
  ].join("\n");
}

/**
 * Returns the chain that decides about the packets of one direction. What the namespace translates is allowed: queries
 * for names, which the guest began, and connections to published ports.
 */
function decisions(way: Way, { rules, default: action }: NetworkPolicy, verdicts: Verdicts): string[] {
  const address = way === "from" ? "daddr" : "saddr";
  const asked = way === "from" ? "original" : "reply";
  return [
    `  chain ${way}_guest {`,
    `    ct status dnat ct direction ${asked} ${verdicts.allow(COUNTER.resolver)}`,
    `    ct status dnat ${verdicts.allow(COUNTER.published)}`,
    ...rules.map(
      (rule, index) => `    ${matchOf(rule, way)} ${verdicts.decide(rule.action, ruleCounter(index))}`,
    ),
    `    ip ${address} { ${SPECIAL_NETWORKS.join(", ")} } ${verdicts.decide("deny", COUNTER.special)}`,
    `    ${verdicts.decide(action, COUNTER.default)}`,
    "  }",
  ];
}

function matchOf({ to, protocol, ports }: PolicyRule, way: Way): string {
  const network = `ip ${way === "from" ? "daddr" : "saddr"} ${to}`;
  if (protocol === undefined) return network;
  if (ports === undefined) return `${network} meta l4proto ${protocol}`;
  return `${network} ${protocol} ${way === "from" ? "dport" : "sport"} ${ports.first}-${ports.last}`;
}
