import type { VmId } from "#model/ids.ts";

/** The first 48 bits of the private IPv6 networks of Hearth, chosen at random as RFC 4193 says. */
export const OWN_NETWORK6 = "fd59:6db4:8e91";

/**
 * The addresses inside a VM with network `nat`. They are the same in every VM, so that a restored guest keeps its own:
 * the VM's network namespace translates them. 192.0.0.0/29 is reserved for such a link between two hosts (RFC 7335), so
 * it is no network that a guest wants to reach.
 *
 * The IPv6 addresses are of a private network of Hearth's own (RFC 4193). A guest that finds both kinds of addresses for
 * a name takes IPv4 first, since its own IPv6 address is private and the other is not (RFC 6724, rule 5).
 */
export const INSIDE = {
  guest: "192.0.0.2",
  gateway: "192.0.0.1",
  prefixLength: 29,
  guest6: `${OWN_NETWORK6}::2`,
  gateway6: `${OWN_NETWORK6}::1`,
  prefixLength6: 126,
  /** The name of the card in the guest. */
  interface: "eth0",
  /** The host's end of the card, in the VM's network namespace. */
  tap: "tap0",
  /** The MAC address of that end: restored guests know it. */
  gatewayMac: "02:00:00:00:00:01",
} as const;

/** The host's ends of VM networks: this, and the VM's id. */
export const LINK_PREFIX = "hvm";

/** Returns the name of the host's end of a VM's network. It has 15 characters, the most that Linux takes. */
export function hostLink(id: VmId): string {
  return `${LINK_PREFIX}${id.slice("vm-".length)}`;
}
