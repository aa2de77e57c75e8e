/** What the network of a VM's spec means for its VMM, for the VMM's sandbox and for the guest. Pure. */
import { createHash } from "node:crypto";
import type { VmId } from "#model/ids.ts";
import type { NetworkNamespace } from "#model/isolation.ts";
import type { NicPlan } from "#model/nic.ts";
import type { VmSpec } from "#model/vm-spec.ts";
import { USER_NETWORK } from "#network/user-network.ts";

/** The guest's end of a card. */
export type GuestNic = {
  /** In the guest, such as eth0. */
  readonly interface: string;
  /** CIDR. */
  readonly addresses: readonly string[];
  readonly gateway: string;
  readonly nameservers: readonly string[];
};

export type VmNetwork = {
  readonly nics: readonly NicPlan[];
  /** Where the VMM runs. */
  readonly namespace: NetworkNamespace;
  /** Undefined: nothing but the loopback. */
  readonly guest: GuestNic | undefined;
};

/** The one card of a VM that has a network. */
export const FIRST_NIC = "net0";

/** Decides the cards, the namespace and the guest's addresses of a VM; the same at every start of it. */
export function planNetwork(
  { network, netLimit }: Pick<VmSpec, "network" | "netLimit">,
  id: VmId,
): VmNetwork {
  if (network === "none") return { nics: [], namespace: { kind: "own" }, guest: undefined };
  const { interface: name, address, gateway, nameserver } = USER_NETWORK;
  return {
    nics: [{ id: FIRST_NIC, mac: macAddress(id), attach: { kind: "user" }, limit: netLimit }],
    // The VMM reaches for the guest what the host reaches.
    namespace: { kind: "host" },
    guest: { interface: name, addresses: [address], gateway, nameservers: [nameserver] },
  };
}

/** The same for the VM at every start; locally administered. */
export function macAddress(id: string): string {
  const hash = createHash("sha256").update(id).digest();
  return ["02", ...[...hash.subarray(0, 5)].map((byte) => byte.toString(16).padStart(2, "0"))].join(":");
}
