/** Decides about packets as the rules in force do, for those who ask what a network policy means. Pure. */
import { familyOf, isIn } from "#model/ip-address.ts";
import { checkOf, deniesIpv6, SPECIAL_NETWORKS, targetOf, VM_ZONE } from "#model/network-policy.ts";
import type { NetworkPolicy, PolicyRule } from "#model/network-policy.ts";

/**
 * The decision about a packet, by a rule with this index, the special networks, the default, or because the policy denies
 * IPv6: see `deniesIpv6`.
 */
export type Decision = {
  readonly action: "allow" | "deny";
  readonly by: "special" | "ipv6" | "default" | { readonly rule: number };
};

/**
 * Decides about a packet to an address, as the rules in force do. A rule for a domain matches if the address was
 * found by a name of that domain.
 */
export function decide(
  policy: NetworkPolicy,
  packet: {
    readonly address: string;
    readonly protocol: PolicyRule["protocol"];
    readonly port: number;
    readonly name?: string | undefined;
    /** For an address of the host. */
    readonly isHost?: boolean | undefined;
    /** For an address of a private network: the networks that it may be in. */
    readonly networks?: readonly string[] | undefined;
  },
): Decision {
  const { default: action, rules } = policy;
  const isSpecial = SPECIAL_NETWORKS.some((network) => isIn(network, packet.address));
  const rule = rules.findIndex(({ to, protocol, ports }) => {
    const over = checkOf({ protocol }) === undefined ? protocol : "tcp";
    if (over !== undefined && over !== packet.protocol) return false;
    if (ports !== undefined && (packet.port < ports.first || packet.port > ports.last)) return false;
    const target = targetOf({ to });
    switch (target.kind) {
      case "network":
        // The host and its VMs have rules of their own.
        return packet.isHost !== true && isIn(to, packet.address);
      case "domain":
        return !isSpecial && packet.name !== undefined && includesName(target.domain, packet.name);
      case "host":
        return packet.isHost === true;
      case "private":
        return packet.networks?.includes(target.name) === true;
      case "vm":
        return packet.networks !== undefined && packet.name?.toLowerCase() === `${target.name}.${VM_ZONE}`;
    }
  });
  const found = rules[rule];
  if (found !== undefined) return { action: found.action, by: { rule } };
  if (isSpecial) return { action: "deny", by: "special" };
  if (familyOf(packet.address) === "ipv6" && deniesIpv6(policy)) return { action: "deny", by: "ipv6" };
  return { action, by: "default" };
}

/** Tells whether a domain includes a name. */
export function includesName(domain: string, name: string): boolean {
  const asked = name.toLowerCase().replace(/\.$/, "");
  if (!domain.startsWith("*")) return asked === domain;
  return asked.endsWith(domain.slice(1)) && asked.length >= domain.length;
}
