/**
 * The network policy of a VM: what its guest may reach. Rules are ordered and the first that matches decides. Special
 * addresses, such as private networks and a cloud's metadata, are denied unless a rule names them. All other addresses
 * follow `default`.
 */
import { isIPv4 } from "node:net";
import { HearthError } from "#base/error.ts";
import { canonicalIpv6, familyOf, isIn } from "#model/ip-address.ts";
import { LIMITS } from "#model/limits.ts";
import { checkPrivateNetworks } from "#model/private-network.ts";

export const POLICY_PROTOCOLS = ["tcp", "udp", "icmp", "tls", "http"] as const;
/** Protocols over TCP whose connections name a host, which has to be of the rule's domain. With their usual port. */
export const CHECKED_PORTS = { tls: 443, http: 80 } as const;

/** Ports from `first` to `last`, both included: 1 to 65535. */
export type PortRange = { readonly first: number; readonly last: number };

export type PolicyRule = {
  readonly action: "allow" | "deny";
  /** The target, in the form of `targetOf`. */
  readonly to: string;
  /** Undefined: every protocol. */
  readonly protocol?: (typeof POLICY_PROTOCOLS)[number] | undefined;
  /** For tcp and udp, where undefined is every port; and for tls and http, which need them. */
  readonly ports?: PortRange | undefined;
  /** For people, as `checkComment` has it. The rules in force have none. */
  readonly comment?: string | undefined;
};

export type NetworkPolicy = {
  readonly default: "allow" | "deny";
  readonly rules: readonly PolicyRule[];
};

/** The policy of VMs whose user chose none: public addresses only. */
export const INTERNET: NetworkPolicy = { default: "allow", rules: [] };

/**
 * The networks that no default includes, from the IANA registries of special-purpose addresses (RFC 6890). The
 * documentation networks are missing: nothing is there, and tests use them as the Internet. Of IPv6, IANA gives out
 * 2000::/3 only; the other networks cover everything else.
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
  "::/3", // Loopback, IPv4-mapped, and NAT64 (64:ff9b::/96), behind which private IPv4 networks may be.
  "2001::/23", // Protocol assignments, with the tunnels of Teredo.
  "2002::/16", // Tunnels of 6to4, whose addresses contain IPv4 addresses.
  "4000::/2", // Reserved.
  "8000::/1", // Private (fc00::/7, with a cloud's metadata at fd00:ec2::254), link-local, and multicast.
] as const;

/** The target of a rule. */
export type Target =
  /** A network in CIDR notation, such as 10.20.0.0/16 or 2001:db8::/32, IPv6 in canonical form. */
  | { readonly kind: "network"; readonly network: string }
  /** `domain:` and a domain, as `checkDomain` has it. */
  | { readonly kind: "domain"; readonly domain: string }
  /** `host`: programs of the host. */
  | { readonly kind: "host" }
  /** `network:` and the name of a private network that the VM is on. */
  | { readonly kind: "private"; readonly name: string }
  /** `vm:` and the name of a VM on a private network that this one is on, too. */
  | { readonly kind: "vm"; readonly name: string };

/** The domain that the names of VMs are below. */
export const VM_ZONE = "hearth";
const HOST_TARGET = "host";
const PRIVATE_PREFIX = "network:";
const VM_PREFIX = "vm:";

const IPV4_MAPPED = { network: "::ffff:0:0/96", bits: 96 } as const;
const DOMAIN_PREFIX = "domain:";
/** The longest name of DNS (RFC 1035), and a pattern. */
const DOMAIN_MAX_CHARS = 253;

/** Checks a policy, and returns it. @throws HearthError `input.invalid` with the rule that is wrong */
export function checkPolicy(policy: NetworkPolicy): NetworkPolicy {
  if (policy.rules.length > LIMITS.policyRulesMax)
    throw new HearthError("input.invalid", `A policy has at most ${LIMITS.policyRulesMax} rules.`);
  for (const rule of policy.rules) {
    const { to, protocol, ports } = rule;
    checkTarget(rule);
    const check = checkOf(rule);
    if (check !== undefined && (domainOf(rule) === undefined || ports === undefined))
      throw new HearthError("input.invalid", `${to}: a rule for ${check} is about a domain, and has ports.`);
    if (ports === undefined) continue;
    if (protocol === undefined || protocol === "icmp")
      throw new HearthError(
        "input.invalid",
        `The rule for ${to} has ports, and is not for a protocol with ports.`,
      );
    if (!isPort(ports.first) || !isPort(ports.last) || ports.first > ports.last)
      throw new HearthError("input.invalid", `${ports.first}-${ports.last} is not a range of ports.`, {
        hint: "Ports are 1 to 65535, the lower one first.",
      });
  }
  return policy;
}

/** Checks what a rule is about. @throws HearthError `input.invalid` */
function checkTarget(rule: PolicyRule): void {
  const target = targetOf(rule);
  if (target.kind === "host") return;
  if (target.kind === "network") return checkNetworkOf(rule);
  if (target.kind === "domain") checkDomain(target.domain);
  else checkPrivateNetworks([target.name]);
  if (rule.action === "allow" || target.kind === "private") return;
  throw new HearthError("input.invalid", `${rule.to}: a rule for a name can only allow.`, {
    hint: "A guest can use an address without its name. Allow what it needs, and deny the rest.",
  });
}

/** @throws HearthError `input.invalid` */
function checkNetworkOf(rule: PolicyRule): void {
  const [address = "", bits = "", ...more] = rule.to.split("/");
  const isNumber = /^(?:0|[1-9]\d{0,2})$/.test(bits) && more.length === 0;
  if (isNumber && isIPv4(address) && Number(bits) <= 32) return;
  if (isNumber && canonicalIpv6(address) === address && Number(bits) <= 128) {
    if (Number(bits) < IPV4_MAPPED.bits || !isIn(IPV4_MAPPED.network, address)) return;
    throw new HearthError("input.invalid", `${rule.to} is an IPv4 network in the form of IPv6.`, {
      hint: "Write it as IPv4, such as 10.20.0.0/16: no packet has such an IPv6 address.",
    });
  }
  throw new HearthError("input.invalid", `${JSON.stringify(rule.to)} is not a network.`, {
    hint: "Write an address and the bits of its network, such as 10.20.0.0/16 or 2001:db8::/32.",
  });
}

/** Returns what a rule is about. */
export function targetOf({ to }: Pick<PolicyRule, "to">): Target {
  if (to === HOST_TARGET) return { kind: "host" };
  const after = (prefix: string): string | undefined =>
    to.startsWith(prefix) ? to.slice(prefix.length) : undefined;
  const domain = after(DOMAIN_PREFIX);
  if (domain !== undefined) return { kind: "domain", domain };
  const [network, vm] = [after(PRIVATE_PREFIX), after(VM_PREFIX)];
  if (network !== undefined) return { kind: "private", name: network };
  return vm === undefined ? { kind: "network", network: to } : { kind: "vm", name: vm };
}

/** Returns the family of the network that a rule is about. Undefined: the rule is about something else. */
export function networkFamily(rule: Pick<PolicyRule, "to">): "ipv4" | "ipv6" | undefined {
  return targetOf(rule).kind === "network" ? familyOf(rule.to) : undefined;
}

/** Returns the domain whose names make the addresses known that a rule allows, if it is such a rule. */
export function learnedDomainOf(rule: Pick<PolicyRule, "to">): string | undefined {
  const target = targetOf(rule);
  return target.kind === "vm" ? `${target.name}.${VM_ZONE}` : domainOf(rule);
}

/** Returns the names of private networks that rules are about. Rules for VMs take some private network. */
export function privateNetworksOf({ rules }: NetworkPolicy): {
  readonly names: string[];
  readonly any: boolean;
} {
  const targets = rules.map(targetOf);
  const names = targets.flatMap((target) => (target.kind === "private" ? [target.name] : []));
  return { names: [...new Set(names)], any: names.length > 0 || targets.some(({ kind }) => kind === "vm") };
}

/** Returns the policy of a VM that is on no private network: without the rules about them. */
export function withoutPrivate(policy: NetworkPolicy): NetworkPolicy {
  const isAboutOthers = (rule: PolicyRule): boolean => !["private", "vm"].includes(targetOf(rule).kind);
  return { ...policy, rules: policy.rules.filter(isAboutOthers) };
}

/**
 * Tells whether a policy denies all of IPv6 that no rule allows, although it allows other public addresses: its rules
 * deny IPv4 networks and name no IPv6 network, so it would let the denied hosts be reached by their IPv6 addresses.
 */
export function deniesIpv6({ default: action, rules }: NetworkPolicy): boolean {
  const deniesIpv4 = rules.some((rule) => rule.action === "deny" && networkFamily(rule) === "ipv4");
  return action === "allow" && deniesIpv4 && !rules.some((rule) => networkFamily(rule) === "ipv6");
}

/** Returns what has to name the host in connections that a rule allows, if they are checked. */
export function checkOf({ protocol }: Pick<PolicyRule, "protocol">): keyof typeof CHECKED_PORTS | undefined {
  return protocol === "tls" || protocol === "http" ? protocol : undefined;
}

/** Returns the domain that a rule is about, if it is about one. */
export function domainOf(rule: Pick<PolicyRule, "to">): string | undefined {
  const target = targetOf(rule);
  return target.kind === "domain" ? target.domain : undefined;
}

/**
 * Checks a domain, and returns it: a name in lower case without a dot at its end, such as deb.debian.org; or `*.` and
 * one, for all names below it.
 * @throws HearthError `input.invalid`
 */
export function checkDomain(domain: string): string {
  const name = domain.replace(/^\*\./, "");
  const isName =
    domain.length <= DOMAIN_MAX_CHARS && /^(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.|$))+$/.test(name);
  if (isName && !name.endsWith(".") && !/(?:^|\.)\d+$/.test(name)) return domain;
  throw new HearthError("input.invalid", `${JSON.stringify(domain)} is not a domain.`, {
    hint: "Write a name in lower case, such as deb.debian.org or *.debian.org. For an address, use --allow-cidr.",
  });
}

function isPort(port: number): boolean {
  return Number.isInteger(port) && port >= 1 && port <= 0xffff;
}
