/**
 * The network policy of a VM: what its guest may reach. Rules are ordered and the first that matches decides. Special
 * addresses, such as private networks and a cloud's metadata, are denied unless a rule names them. All other addresses
 * follow `default`.
 */
import { BlockList, isIPv4 } from "node:net";
import { HearthError } from "#base/error.ts";
import { LIMITS } from "#model/limits.ts";

export const POLICY_PROTOCOLS = ["tcp", "udp", "icmp"] as const;

/** Ports from `first` to `last`, both included: 1 to 65535. */
export type PortRange = { readonly first: number; readonly last: number };

export type PolicyRule = {
  readonly action: "allow" | "deny";
  /** An IPv4 network in CIDR notation, such as 10.20.0.0/16. */
  readonly to: string;
  /** Undefined: every protocol. */
  readonly protocol?: (typeof POLICY_PROTOCOLS)[number] | undefined;
  /** For tcp and udp. Undefined: every port. */
  readonly ports?: PortRange | undefined;
};

export type NetworkPolicy = {
  readonly default: "allow" | "deny";
  readonly rules: readonly PolicyRule[];
};

/** The policy of VMs whose user chose none: public addresses only. */
export const INTERNET: NetworkPolicy = { default: "allow", rules: [] };

/**
 * The IPv4 networks that no default includes, from the IANA registry of special-purpose addresses (RFC 6890). The
 * documentation networks are missing: nothing is there, and tests use them as the Internet.
 */
export const SPECIAL_NETWORKS = [
  "0.0.0.0/8", // This network.
  "10.0.0.0/8", // Private.
  "100.64.0.0/10", // Shared by carriers, and by Tailscale.
  "127.0.0.0/8", // Loopback.
  "169.254.0.0/16", // Link-local, with a cloud's metadata at 169.254.169.254.
  "172.16.0.0/12", // Private.
  "192.0.0.0/24", // Protocol assignments, with the addresses inside of VMs.
  "192.168.0.0/16", // Private.
  "198.18.0.0/15", // Benchmarks, with the addresses of VMs on the host.
  "224.0.0.0/4", // Multicast.
  "240.0.0.0/4", // Reserved, with the broadcast address.
] as const;

/** Checks a policy, and returns it. @throws HearthError `input.invalid` with the rule that is wrong */
export function checkPolicy(policy: NetworkPolicy): NetworkPolicy {
  if (policy.rules.length > LIMITS.policyRulesMax)
    throw new HearthError("input.invalid", `A policy has at most ${LIMITS.policyRulesMax} rules.`);
  for (const { to, protocol, ports } of policy.rules) {
    const [address = "", bits = "", ...more] = to.split("/");
    if (!isIPv4(address) || !/^(?:\d|[12]\d|3[0-2])$/.test(bits) || more.length > 0)
      throw new HearthError("input.invalid", `${JSON.stringify(to)} is not an IPv4 network.`, {
        hint: "Write an address and the bits of its network, such as 10.20.0.0/16.",
      });
    if (ports === undefined) continue;
    if (protocol !== "tcp" && protocol !== "udp")
      throw new HearthError("input.invalid", `The rule for ${to} has ports, and is not for tcp or udp.`);
    if (!isPort(ports.first) || !isPort(ports.last) || ports.first > ports.last)
      throw new HearthError("input.invalid", `${ports.first}-${ports.last} is not a range of ports.`, {
        hint: "Ports are 1 to 65535, the lower one first.",
      });
  }
  return policy;
}

/** The decision about a packet, by a rule with this index, the special networks, or the default. */
export type Decision = {
  readonly action: "allow" | "deny";
  readonly by: "special" | "default" | { readonly rule: number };
};

/** Decides about a packet to an IPv4 address, as the rules in force do. */
export function decide(
  { default: action, rules }: NetworkPolicy,
  packet: { readonly address: string; readonly protocol: PolicyRule["protocol"]; readonly port: number },
): Decision {
  const rule = rules.findIndex(({ to, protocol, ports }) => {
    if (protocol !== undefined && protocol !== packet.protocol) return false;
    if (ports !== undefined && (packet.port < ports.first || packet.port > ports.last)) return false;
    return isIn(to, packet.address);
  });
  const found = rules[rule];
  if (found !== undefined) return { action: found.action, by: { rule } };
  if (SPECIAL_NETWORKS.some((network) => isIn(network, packet.address)))
    return { action: "deny", by: "special" };
  return { action, by: "default" };
}

/** Tells whether an IPv4 network contains an address. */
export function isIn(network: string, address: string): boolean {
  const [base = "", bits] = network.split("/");
  const list = new BlockList();
  list.addSubnet(base, Number(bits));
  return list.check(address);
}

function isPort(port: number): boolean {
  return Number.isInteger(port) && port >= 1 && port <= 0xffff;
}
