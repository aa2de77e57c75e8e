/**
 * Writes the nftables programs of VM networks. One is in the namespace of each VM, and has its policy; the other is on
 * the host, and the same for all VMs. All text comes from arguments that were parsed. Pure.
 */
import { createHash } from "node:crypto";
import { policyProgram } from "#helper/policy-program.ts";
import { UPLINK, VM_ADDRESSES } from "#helper/vm-addresses.ts";
import type { Names, Surroundings } from "#helper/policy-program.ts";
import { INSIDE, LINK_PREFIX } from "#model/inside-addresses.ts";
import { familyOf } from "#model/ip-address.ts";
import type { NetworkPolicy } from "#model/network-policy.ts";
import { EVERY_ADDRESS } from "#model/published-port.ts";
import type { PublishedPort } from "#model/published-port.ts";
import type { RateLimit } from "#model/rate-limit.ts";

/** The private networks of a host: see numberMax of agent/internal/vmnet/private.go. */
const PRIVATE_MAX = 254;

/** Stands for the VM's IPv4 address on the host in programs that are loaded when it has one; with a 6, for the other. */
const ADDRESS_VARIABLE = "$address";

export type EnforcedPolicy = {
  readonly policy: NetworkPolicy;
  /** The private networks that the VM is on. */
  readonly networks?: readonly string[] | undefined;
  /** The IPv4 address of the resolver that the guest's queries go to, or those of the namespace's own resolver. */
  readonly resolver?: string | undefined;
};

export type GuestNetwork = EnforcedPolicy & {
  /** The name that VMs on the same private networks find it by. */
  readonly name?: string | undefined;
  /** The address of the card: frames from others are dropped. */
  readonly mac: string;
  readonly publish?: readonly PublishedPort[] | undefined;
  /** The limit of each direction, separately. */
  readonly limit?: RateLimit | undefined;
};

/**
 * The headers of IPv6 that may stand before the one that rules are about, wherever they are: hop-by-hop options, routing,
 * destination options, and mobility. No guest needs them to reach the Internet.
 */
const EXTENSION_HEADERS = ["hbh", "rt", "dst", "mh"] as const;
const NEIGHBOUR_DISCOVERY =
  "{ nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, nd-redirect }";

/**
 * Returns the program for the namespace of a VM. In it, $address and $address6 are the VM's addresses on the host, and
 * $network0 and $address0 are the first private network and the address there.
 * @param policyNumber and host: see `policyProgram`
 */
export function guestProgram(
  { mac, policy, publish = [], networks = [] }: Pick<GuestNetwork, "mac" | "policy" | "publish" | "networks">,
  names: Names,
  policyNumber: number,
  host: Surroundings["host"],
): string {
  const { guest, guest6, tap } = INSIDE;
  const toGuest = publish.map(({ address: on, protocol, guestPort }) =>
    familyOf(on) === "ipv6"
      ? `iifname "${UPLINK}" ip6 daddr ${ADDRESS_VARIABLE}6 ${protocol} dport ${guestPort} dnat ip6 to ${guest6}`
      : `iifname "${UPLINK}" ip daddr ${ADDRESS_VARIABLE} ${protocol} dport ${guestPort} dnat ip to ${guest}`,
  );
  const from = (source: string, address: string): string =>
    `    iifname "${UPLINK}" ip saddr ${source} ip daddr ${address} dnat ip to ${guest}`;
  return [
    "table netdev hearth {",
    "  chain ingress {",
    `    type filter hook ingress device "${tap}" priority filter; policy drop;`,
    `    ether saddr != ${mac} drop`,
    `    arp saddr ip ${guest} accept`,
    `    ip saddr ${guest} accept`,
    ...EXTENSION_HEADERS.map((header) => `    exthdr ${header} exists drop`),
    `    icmpv6 type ${NEIGHBOUR_DISCOVERY} goto discovery`,
    `    ip6 saddr ${guest6} accept`,
    "  }",
    // The guest looks for its gateway, and tells nothing: the namespace has its MAC address as a permanent neighbour. A
    // search from other addresses would make neighbours, whose table the whole host shares.
    "  chain discovery {",
    `    ip6 saddr ${guest6} icmpv6 type nd-neighbor-solicit ip6 hoplimit 255 accept`,
    "    drop",
    "  }",
    "}",
    "table inet hearth_nat {",
    // Again, since all headers of a packet in fragments are known now.
    "  chain headers {",
    "    type filter hook prerouting priority raw; policy accept;",
    ...EXTENSION_HEADERS.map((header) => `    iifname "${tap}" exthdr ${header} exists drop`),
    "  }",
    "  chain from_outside {",
    "    type nat hook prerouting priority dstnat; policy accept;",
    ...[...new Set(toGuest)].map((line) => `    ${line}`),
    from(VM_ADDRESSES.gateway, ADDRESS_VARIABLE),
    ...networks.map((_, index) => from(`$network${index}`, `$address${index}`)),
    "  }",
    "  chain to_uplink {",
    "    type nat hook postrouting priority srcnat; policy accept;",
    ...networks.map(
      (_, index) => `    oifname "${UPLINK}" ip daddr $network${index} snat ip to $address${index}`,
    ),
    `    oifname "${UPLINK}" snat ip to ${ADDRESS_VARIABLE}`,
    `    oifname "${UPLINK}" snat ip6 to ${ADDRESS_VARIABLE}6`,
    "  }",
    "}",
    policyProgram(policy, names, policyNumber, { networks, host }),
  ].join("\n");
}

/**
 * Returns the program for the namespace of a VM that limits the packets of each direction. Without a rate, it removes
 * that limit.
 */
export function packetLimitProgram({ opsPerS, opsBurst = opsPerS }: RateLimit): string {
  const table = "table inet hearth_limit";
  const replaced = `${table}\ndelete ${table}\n`;
  if (opsPerS === undefined) return replaced;
  const { tap } = INSIDE;
  const drop = `limit rate over ${opsPerS}/second burst ${opsBurst} packets drop`;
  return [
    `${replaced}${table} {`,
    "  chain forward {",
    "    type filter hook forward priority filter - 1; policy accept;",
    `    iifname "${tap}" ${drop}`,
    `    oifname "${tap}" ${drop}`,
    "  }",
    "}",
    "",
  ].join("\n");
}

/** The time that a packet waits for its turn before it is dropped. */
const QUEUE_MS = 200;
/** A segment that the kernel has not split yet. */
const BURST_MIN_BYTES = 64 * 1024;

/** Returns the command of tc(8) that limits the bytes that leave through a link. Without a rate, it removes that limit. */
export function bandwidthCommand(
  link: string,
  { bandwidthBytesPerS, bandwidthBurstBytes }: RateLimit,
): string {
  if (bandwidthBytesPerS === undefined) return `qdisc replace dev ${link} root noqueue\n`;
  const burst = bandwidthBurstBytes ?? Math.max(BURST_MIN_BYTES, Math.ceil(bandwidthBytesPerS / 10));
  return `qdisc replace dev ${link} root tbf rate ${bandwidthBytesPerS}bps burst ${burst} latency ${QUEUE_MS}ms\n`;
}

/**
 * Returns the program for the host that publishes ports of a VM, in tables of its own. In it, $address and $address6 are
 * the VM's addresses on the host.
 * @param table the name of both tables
 * @param link the host's end of the VM's network, which may carry addresses of the loopback
 */
export function publishProgram(table: string, link: string, publish: readonly PublishedPort[]): string {
  const [rules = [], rules6 = []] = (["ipv4", "ipv6"] as const).map((family) => {
    const ports = publish.filter(({ address: on }) => familyOf(on) === family);
    return ports.map(({ address: on, hostPort, guestPort, protocol }) => {
      const each = EVERY_ADDRESS[family];
      const header = family === "ipv6" ? "ip6" : "ip";
      const here = on === each ? "fib daddr type local" : `${header} daddr ${on}`;
      const to = family === "ipv6" ? `${ADDRESS_VARIABLE}6` : ADDRESS_VARIABLE;
      return `    ${here} ${protocol} dport ${hostPort} dnat to ${to}:${guestPort}`;
    });
  });
  return [
    ...(rules.length > 0 ? publishTable(table, link, rules) : []),
    ...(rules6.length > 0 ? publishTable6(table, rules6) : []),
    "",
  ].join("\n");
}

function publishTable(table: string, link: string, rules: readonly string[]): string[] {
  return [
    `table ip ${table} {`,
    "  chain from_outside {",
    "    type nat hook prerouting priority dstnat; policy accept;",
    `    iifname "${LINK_PREFIX}*" accept`,
    // From outside, nothing may reach what is for programs of this host.
    "    ip daddr 127.0.0.0/8 accept",
    ...rules,
    "  }",
    "  chain from_host {",
    "    type nat hook output priority -100; policy accept;",
    ...rules,
    "  }",
    "  chain to_vm {",
    "    type nat hook postrouting priority srcnat - 1; policy accept;",
    `    oifname "${link}" ip saddr 127.0.0.0/8 snat to ${VM_ADDRESSES.gateway}`,
    "  }",
    "}",
  ];
}

function publishTable6(table: string, rules: readonly string[]): string[] {
  return [
    `table ip6 ${table} {`,
    "  chain from_outside {",
    "    type nat hook prerouting priority dstnat; policy accept;",
    `    iifname "${LINK_PREFIX}*" accept`,
    ...rules,
    "  }",
    "  chain from_host {",
    "    type nat hook output priority -100; policy accept;",
    // The kernel carries no packets of the loopback's address over another link.
    "    ip6 daddr ::1 accept",
    ...rules,
    "  }",
    "}",
  ];
}

/** Hearth's own table on the host. */
export const HOST_TABLE = "inet hearth";
const VERSION_CHARS = 16;

/** The program for the host, and a chain of its table, which no other version has. */
export type HostProgram = { readonly rules: string; readonly version: string };

/** The families of addresses for which Hearth made the host a router. */
export type MadeRouter = Readonly<Record<"ipv4" | "ipv6", boolean>>;

/**
 * Returns the program for the host. Loading it again replaces it in one transaction.
 * @param madeRouter for these families, the host forwards packets of VMs only
 */
export function hostProgram(madeRouter: MadeRouter): HostProgram {
  const chains = hostChains(madeRouter);
  const version = `version_${createHash("sha256").update(chains).digest("hex").slice(0, VERSION_CHARS)}`;
  const rules = [
    `table ${HOST_TABLE}`,
    `delete table ${HOST_TABLE}`,
    `table ${HOST_TABLE} {`,
    `  chain ${version} {`,
    "  }",
    chains,
    "}",
    "",
  ].join("\n");
  return { rules, version };
}

function hostChains(madeRouter: MadeRouter): string {
  const links = `"${LINK_PREFIX}*"`;
  const families = (["ipv4", "ipv6"] as const).filter((family) => madeRouter[family]);
  const router = [
    "  chain router {",
    "    type filter hook forward priority filter - 11; policy accept;",
    ...families.map((family) => `    meta nfproto ${family} iifname != ${links} oifname != ${links} drop`),
    "  }",
  ];
  const pairs = Array.from({ length: PRIVATE_MAX }, (_, index) => {
    const network = `198.19.${index + 1}.0/24`;
    return `${network} . ${network}`;
  });
  return [
    "  set private {",
    "    type ipv4_addr . ipv4_addr",
    "    flags interval",
    `    elements = { ${pairs.join(", ")} }`,
    "  }",
    "  chain sources {",
    "    type filter hook prerouting priority filter - 10; policy accept;",
    `    iifname ${links} fib saddr . iif oif missing drop`,
    "  }",
    "  chain forward {",
    "    type filter hook forward priority filter - 10; policy accept;",
    `    iifname ${links} oifname ${links} ip saddr . ip daddr @private accept`,
    `    iifname ${links} oifname ${links} reject with icmpx admin-prohibited`,
    // Only published ports are reached from outside, not the addresses of VMs.
    `    iifname != ${links} oifname ${links} ct state new ct status ! dnat reject with icmpx admin-prohibited`,
    "  }",
    ...(families.length > 0 ? router : []),
    "  chain input {",
    "    type filter hook input priority filter - 10; policy accept;",
    // A VM whose policy has no rule for the host cannot send to this address.
    `    iifname ${links} ip daddr ${VM_ADDRESSES.gateway} accept`,
    `    iifname ${links} ct state established,related accept`,
    `    iifname ${links} reject with icmpx admin-prohibited`,
    "  }",
    "  chain to_outside {",
    "    type nat hook postrouting priority srcnat; policy accept;",
    `    ip saddr ${VM_ADDRESSES.network} oifname != ${links} masquerade`,
    `    ip6 saddr ${VM_ADDRESSES.network6} oifname != ${links} masquerade`,
    "  }",
  ].join("\n");
}
