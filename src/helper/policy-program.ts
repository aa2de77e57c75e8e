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
export const COUNTER = { resolver: "resolver", special: "special", default: "default" } as const;

/** Returns the name of the counter of a rule, by its index. */
export function ruleCounter(index: number): string {
  return `rule${index}`;
}

/** The direction of a packet: from the guest, or an answer to it. */
type Way = "from" | "to";

/**
 * Returns the program that replaces the policy.
 * @param number differs from the one before
 */
export function policyProgram(policy: NetworkPolicy, number: number): string {
  const counters = [
    COUNTER.resolver,
    ...policy.rules.map((_, index) => ruleCounter(index)),
    COUNTER.special,
    COUNTER.default,
  ];
  const markOf = (rule: number): string => `0x${(number * RULES + rule).toString(16)}`;
  const marks = counters.map((name, rule) => `${markOf(rule)} : "${name}"`);
  const { tap } = INSIDE;
  return [
    `table ${POLICY_TABLE}`,
    `delete table ${POLICY_TABLE}`,
    `table ${POLICY_TABLE} {`,
    ...counters.map((name) => `  counter ${name} { }`),
    `  map counted { type mark : counter; elements = { ${marks.join(", ")} }; }`,
    "  chain cut {",
    `    ct mark set ${markOf(CUT)}`,
    `    iifname "${tap}" meta l4proto tcp reject with tcp reset`,
    "    drop",
    "  }",
    "  chain deny {",
    "    ct state established,related goto cut",
    "    reject with icmpx admin-prohibited",
    "  }",
    ...decisions("from", policy, markOf),
    ...decisions("to", policy, markOf),
    "  chain forward {",
    "    type filter hook forward priority filter; policy drop;",
    `    ct mark ${markOf(CUT)} goto cut`,
    `    ct state established,related ct mark ${markOf(0)}-${markOf(CUT - 1)} counter name ct mark map @counted accept`,
    `    iifname "${tap}" oifname "${UPLINK}" goto from_guest`,
    `    iifname "${UPLINK}" oifname "${tap}" ct state established,related goto to_guest`,
    "  }",
    "  chain input {",
    "    type filter hook input priority filter; policy drop;",
    `    iifname "${tap}" counter reject with icmpx admin-prohibited`,
    "  }",
    "}",
    "",
  ].join("\n");
}

/** Returns the chain that decides about the packets of one direction. */
function decisions(way: Way, policy: NetworkPolicy, markOf: (rule: number) => string): string[] {
  const { rules } = policy;
  const address = way === "from" ? "daddr" : "saddr";
  const verdict = (action: PolicyRule["action"], counter: string, rule: number): string =>
    action === "deny"
      ? `counter name "${counter}" goto deny`
      : `ct mark set ${markOf(rule)} counter name "${counter}" accept`;
  return [
    `  chain ${way}_guest {`,
    `    ct status dnat ${verdict("allow", COUNTER.resolver, 0)}`,
    ...rules.map(
      (rule, index) => `    ${matchOf(rule, way)} ${verdict(rule.action, ruleCounter(index), index + 1)}`,
    ),
    `    ip ${address} { ${SPECIAL_NETWORKS.join(", ")} } ${verdict("deny", COUNTER.special, rules.length + 1)}`,
    `    ${verdict(policy.default, COUNTER.default, rules.length + 2)}`,
    "  }",
  ];
}

function matchOf({ to, protocol, ports }: PolicyRule, way: Way): string {
  const network = `ip ${way === "from" ? "daddr" : "saddr"} ${to}`;
  if (protocol === undefined) return network;
  if (ports === undefined) return `${network} meta l4proto ${protocol}`;
  return `${network} ${protocol} ${way === "from" ? "dport" : "sport"} ${ports.first}-${ports.last}`;
}
