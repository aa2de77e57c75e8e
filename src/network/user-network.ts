/**
 * The addresses of QEMU's user-mode network, as the guest sees them. The agent sets them; there is no DHCP to wait for.
 */
export const USER_NETWORK = {
  interface: "eth0",
  address: "10.0.2.15/24",
  gateway: "10.0.2.2",
  nameserver: "10.0.2.3",
} as const;
