/** Derives the VMM's network cards, its network namespace and the guest's addresses from a VM's spec. Pure. */
import { createHash } from "node:crypto";
import type { VmId } from "#model/ids.ts";
import type { NetworkNamespace } from "#model/isolation.ts";
import type { NicPlan } from "#model/nic.ts";
import type { VmSpec } from "#model/vm-spec.ts";
import { USER_NETWORK } from "#network/user-network.ts";

/** The guest's end of a card. */
export type GuestNic = {
  /** The name in the guest, for example eth0. */
  readonly interface: string;
  /** Addresses in CIDR notation. */
  readonly addresses: readonly string[];
  readonly gateway: string;
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

/** Decides the cards, the namespace and the guest's addresses of a VM. The result is the same at every start. */
export function planNetwork(
  { network, netLimit }: Pick<VmSpec, "network" | "netLimit">,
  id: VmId,
): VmNetwork {
  if (network === "none") return { nics: [], namespace: { kind: "own" }, guest: undefined };
  const { interface: name, address, gateway, nameserver } = USER_NETWORK;
  return {
    nics: [{ id: FIRST_NIC, mac: macAddress(id), attach: { kind: "user" }, limit: netLimit }],
    // The VMM can connect to everything the host can, on behalf of the guest.
    namespace: { kind: "host" },
    guest: { interface: name, addresses: [address], gateway, nameservers: [nameserver] },
  };
}

/** Returns a locally administered address that is the same at every start of the VM. */
export function macAddress(id: string): string {
  const hash = createHash("sha256").update(id).digest();
  return ["02", ...[...hash.subarray(0, 5)].map((byte) => byte.toString(16).padStart(2, "0"))].join(":");
}
