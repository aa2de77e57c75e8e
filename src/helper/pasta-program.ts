/** Writes the arguments of pasta(1) for a VM's network, and the nftables program that they need. Pure. */
import { HearthError } from "#base/error.ts";
import { UPLINK } from "#helper/vm-addresses.ts";
import { INSIDE } from "#model/inside-addresses.ts";
import { familyOf } from "#model/ip-address.ts";
import type { PublishedPort } from "#model/published-port.ts";

/** The addresses of the uplink, which are the same in the network namespace of each VM. */
export const PASTA_ADDRESS = {
  guest: "198.18.0.2",
  gateway: "198.18.0.1",
  prefixLength: 30,
  netmask: "255.255.255.252",
} as const;

/** The size of packets on Ethernet. pasta would take larger ones than the guest's card. */
const MTU = 1500;

/**
 * Returns the arguments, but for the namespace. Nothing of the host is reached but what the policy allows, and nothing
 * is published but these ports; unless told, pasta would map its gateway to the host's loopback, and forward all ports.
 * @throws HearthError `input.invalid` for ports that it cannot publish at once
 */
export function pastaArguments(publish: readonly PublishedPort[]): string[] {
  checkTargets(publish);
  const forwards = (["tcp", "udp"] as const).flatMap((protocol) => {
    const ports = publish.filter((port) => port.protocol === protocol);
    const flag = protocol === "tcp" ? "--tcp-ports" : "--udp-ports";
    return ports.length === 0 ? [flag, "none"] : ports.flatMap((port) => [flag, forwardOf(port)]);
  });
  return [
    ["--quiet", "--ipv4-only", "--ns-ifname", UPLINK, "--mtu", String(MTU)],
    ["--address", PASTA_ADDRESS.guest, "--netmask", PASTA_ADDRESS.netmask],
    ["--gateway", PASTA_ADDRESS.gateway, "--no-map-gw"],
    ["--no-dhcp", "--no-ndp", "--no-dhcpv6", "--no-ra"],
    ["--tcp-ns", "none", "--udp-ns", "none", ...forwards],
  ].flat();
}

/**
 * Forwards a port to the same one in the namespace, where nftables translate it: pasta 2023-03-09 of Debian 12 loses the
 * answers to UDP from the host's loopback when it translates ports itself.
 */
function forwardOf({ address, hostPort }: PublishedPort): string {
  return `${address === "0.0.0.0" ? "" : `${address}/`}${hostPort}`;
}

/**
 * Refuses ports that lead to several ones of the guest: a packet in the namespace does not tell the address of the host
 * that it came to.
 * @throws HearthError `input.invalid`; `feature.missing` for an IPv6 address
 */
export function checkTargets(publish: readonly PublishedPort[]): void {
  for (const { address, protocol, hostPort, guestPort } of publish) {
    if (familyOf(address) === "ipv6")
      throw new HearthError(
        "feature.missing",
        `publish: VMs of a hearthd without root have no IPv6: ${address}.`,
        {
          hint: "Publish on an IPv4 address, or run hearthd beside a helper that is root: docs/helper.md.",
        },
      );
    const other = publish.find(
      (one) => one.protocol === protocol && one.hostPort === hostPort && one.guestPort !== guestPort,
    );
    if (other === undefined) continue;
    throw new HearthError(
      "input.invalid",
      `publish: port ${hostPort}/${protocol} of the host leads to the ports ${guestPort} and ${other.guestPort} of the guest.`,
      { hint: "Where hearthd does not run as root, a port leads to the same one at each address." },
    );
  }
}

/**
 * Returns the program that publishes ports of the guest. pasta sends packets of other hosts through the uplink, with the
 * addresses that they have. Connections from the host's loopback it opens itself in the namespace, to an address of its
 * own; the guest sees them come from its gateway. Empty if no ports are published.
 */
export function publishedProgram(publish: readonly PublishedPort[]): string {
  if (publish.length === 0) return "";
  const { tap, guest, gateway } = INSIDE;
  const own = `{ 127.0.0.0/8, ${PASTA_ADDRESS.guest} }`;
  // On a host without a network, pasta sends to another address than the uplink's.
  const toGuest = (from: string): string[] => {
    const rules = publish.map(
      ({ protocol, hostPort, guestPort }) =>
        `    ${from} ${protocol} dport ${hostPort} dnat ip to ${guest}:${guestPort}`,
    );
    return [...new Set(rules)];
  };
  return [
    "table inet hearth_published {",
    "  chain from_outside {",
    "    type nat hook prerouting priority dstnat; policy accept;",
    ...toGuest(`iifname "${UPLINK}"`),
    "  }",
    "  chain from_pasta {",
    "    type nat hook output priority -100; policy accept;",
    ...toGuest(`ip daddr ${own}`),
    "  }",
    "  chain to_guest {",
    "    type nat hook postrouting priority srcnat; policy accept;",
    `    oifname "${tap}" ip saddr ${own} snat ip to ${gateway}`,
    "  }",
    "}",
    "",
  ].join("\n");
}
