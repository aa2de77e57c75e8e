/** The addresses of VMs on the host, and the link that leads to them. */
import { OWN_NETWORK6 } from "#model/inside-addresses.ts";

/** The VM's end of the link between its namespace and the host. */
export const UPLINK = "uplink";

/** Contains the addresses of each running VM, which the host translates to its own. */
export const VM_ADDRESSES = {
  network: "198.18.0.0/16",
  gateway: "198.18.0.1",
  /** Contains the IPv6 addresses, each of which ends with the IPv4 address: one lease is for both. */
  network6: `${OWN_NETWORK6}:1::/64`,
} as const;

/** Contains the private networks, a /24 each, and the address of each VM on one. */
export const PRIVATE_RANGE = "198.19.0.0/16";
