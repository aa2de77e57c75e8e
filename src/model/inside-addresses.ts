/**
 * The addresses inside a VM with network `nat`. They are the same in every VM, so that a restored guest keeps its own:
 * the VM's network namespace translates them. 192.0.0.0/29 is reserved for such a link between two hosts (RFC 7335), so
 * it is no network that a guest wants to reach.
 */
export const INSIDE = {
  guest: "192.0.0.2",
  gateway: "192.0.0.1",
  prefixLength: 29,
  /** The host's end of the card, in the VM's network namespace. */
  tap: "tap0",
  /** The MAC address of that end: restored guests know it. */
  gatewayMac: "02:00:00:00:00:01",
} as const;
