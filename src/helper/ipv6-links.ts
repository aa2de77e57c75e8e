/**
 * Writes the commands of ip(8) for the IPv6 part of a VM's network. Neighbours on the link between the namespace and the
 * host are permanent, and so is the guest for its namespace: no link of Hearth but the guest's own looks for others, and
 * nobody can answer in their place. Pure.
 */
import { vmAddress6 } from "#helper/nft-program.ts";
import { UPLINK } from "#helper/policy-program.ts";
import { INSIDE } from "#model/inside-addresses.ts";

/** The MAC addresses of the link between the namespace of a VM and the host. It has two ends, so all have the same. */
export const UPLINK_MACS = { namespace: "02:00:00:00:00:02", host: "02:00:00:00:00:03" } as const;
/** The host, for the namespace. No link has this address: its MAC address is all that is needed. */
const HOST_GATEWAY = "fe80::1";

/** Returns the command by which a link has no address of its own making. Run it before the link is up. */
export function noOwnAddress6(link: string): string {
  return `link set ${link} addrgenmode none`;
}

/** Returns the commands for the namespace's end of the card, which answers the guest also if the host has no IPv6. */
export function cardCommands6(guestMac: string): string[] {
  const { tap, gateway6, prefixLength6, guest6 } = INSIDE;
  return [
    `addr add ${gateway6}/${prefixLength6} dev ${tap} nodad`,
    `neigh add ${guest6} lladdr ${guestMac} dev ${tap} nud permanent`,
  ];
}

/** Returns the commands for the namespace's end of the link to the host. Without them, IPv6 fails at once. */
export function uplinkCommands6(address: string): string[] {
  return [
    `addr add ${vmAddress6(address)}/128 dev ${UPLINK} nodad`,
    `neigh add ${HOST_GATEWAY} lladdr ${UPLINK_MACS.host} dev ${UPLINK} nud permanent`,
    `route add default via ${HOST_GATEWAY} dev ${UPLINK} onlink`,
  ];
}

/** Returns the commands that give the namespace the addresses for this IPv4 address, in place of those for another one. */
export function moveCommands6(from: string, to: string): string[] {
  return [
    `addr replace ${vmAddress6(to)}/128 dev ${UPLINK} nodad`,
    `addr del ${vmAddress6(from)}/128 dev ${UPLINK}`,
  ];
}

/** Returns the commands for the host's end of a VM with this IPv4 address. */
export function hostCommands6(link: string, address: string): string[] {
  const address6 = vmAddress6(address);
  return [
    `route add ${address6}/128 dev ${link}`,
    `neigh add ${address6} lladdr ${UPLINK_MACS.namespace} dev ${link} nud permanent`,
  ];
}
