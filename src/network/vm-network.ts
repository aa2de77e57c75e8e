/** Derives the VMM's network cards, its network namespace and the guest's addresses from a VM's spec. Pure. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import type { VmId } from "#model/ids.ts";
import type { NetworkNamespace } from "#model/isolation.ts";
import { INSIDE } from "#model/inside-addresses.ts";
import type { NicPlan } from "#model/nic.ts";
import type { VmSpec } from "#model/vm-spec.ts";

/** The guest's end of a card. */
export type GuestNic = {
  /** The name in the guest, for example eth0. */
  readonly interface: string;
  /** Addresses in CIDR notation. */
  readonly addresses: readonly string[];
  readonly gateway: string;
  /** The address in CIDR notation, and the gateway, if it has IPv6. */
  readonly ipv6?: { readonly address: string; readonly gateway: string } | undefined;
  readonly nameservers: readonly string[];
};

export type VmNetwork = {
  readonly nics: readonly NicPlan[];
  /** The network namespace of the VMM. */
  readonly namespace: NetworkNamespace;
  /** Undefined: loopback only. */
  readonly guest: GuestNic | undefined;
};

/** The id of the only card of a VM with a network. */
export const FIRST_NIC = "net0";

/** The directory of the VMs' network namespaces, of the whole host. A reboot removes them. */
export const NETWORK_NAMESPACES = "/run/hearth/netns";

/** Decides the cards, the namespace and the guest's addresses of a VM. The result is the same at every start. */
export function planNetwork({ network }: Pick<VmSpec, "network">, id: VmId): VmNetwork {
  const card = { id: FIRST_NIC, mac: macAddress(id) };
  switch (network) {
    case "none":
      return { nics: [], namespace: { kind: "own" }, guest: undefined };
    case "nat":
      return {
        // The namespace has the limit, whatever the VMM can do.
        nics: [{ ...card, limit: undefined, attach: { kind: "tap", name: INSIDE.tap } }],
        namespace: { kind: "join", path: join(NETWORK_NAMESPACES, id) },
        guest: {
          interface: INSIDE.interface,
          addresses: [`${INSIDE.guest}/${INSIDE.prefixLength}`],
          gateway: INSIDE.gateway,
          ipv6: { address: `${INSIDE.guest6}/${INSIDE.prefixLength6}`, gateway: INSIDE.gateway6 },
          nameservers: [INSIDE.gateway],
        },
      };
  }
}

/** Returns a locally administered address that is the same at every start of the VM. */
export function macAddress(id: string): string {
  const hash = createHash("sha256").update(id).digest();
  return ["02", ...[...hash.subarray(0, 5)].map((byte) => byte.toString(16).padStart(2, "0"))].join(":");
}
