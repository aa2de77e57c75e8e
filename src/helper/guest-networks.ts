/** Describes what makes the networks of VMs. Which one does follows from the rights of the privileged port. */
import type { EnforcedPolicy, GuestNetwork } from "#helper/nft-program.ts";
import type { Limitations, NetworkListing } from "#helper/privileged-port.ts";
import type { LaunchNetwork } from "#jail/vmm-launch.ts";
import type { VmId } from "#model/ids.ts";
import type { RateLimit } from "#model/rate-limit.ts";

export interface GuestNetworks {
  /** Says what networks lack here; undefined: nothing. */
  readonly gaps?: Pick<Limitations, "network" | "domains">;
  /**
   * Makes the VM's namespace, with its policy and a TAP device that its VMM may open. Removes what the VM had before.
   * @throws HearthError `input.invalid`, `feature.missing`, `host.tool_missing`, `host.tool_failed`,
   * `host.addresses_used_up`
   */
  make(id: VmId, network: GuestNetwork, signal: AbortSignal): Promise<void>;
  /** Removes the VM's namespace. The VMM has ended. Idempotent. */
  remove(id: VmId, signal: AbortSignal): Promise<void>;
  /** Replaces the policy of a VM that has a network, for its connections too. @throws HearthError as `make` */
  setPolicy(id: VmId, enforced: EnforcedPolicy, signal: AbortSignal): Promise<void>;
  /** Replaces the limit of a VM that has a network; one without rates removes it. @throws HearthError as `make` */
  setLimit(id: VmId, limit: RateLimit, signal: AbortSignal): Promise<void>;
  /** Lists what is in force, see `PrivilegedPort.readNetworkRules`. @throws HearthError as `make` */
  listRules(id: VmId, what: NetworkListing, signal: AbortSignal): Promise<string>;
  /** Lists VMs that have a namespace, perhaps those of other hearthds, too. */
  list(): string[];
  /** Returns the namespace for the VM's VMM. @throws HearthError `input.invalid` for a VM without a network */
  join(id: VmId): LaunchNetwork;
}
