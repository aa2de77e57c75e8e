import { HearthError } from "#base/error.ts";
import type { Host } from "#daemon/host.ts";
import type { VmSpec } from "#model/vm-spec.ts";

/**
 * Checks the network of a VM, and its policy. Returns the spec.
 * @throws HearthError `feature.missing` for a network that VMs of this hearthd, or without a jail, cannot have;
 * `input.invalid` for a policy where there is no network that it could be for
 */
export function checkNetwork({ limitations }: Pick<Host, "limitations">, spec: VmSpec): VmSpec {
  const { network, policy, isolation } = spec;
  if (network !== "nat") {
    if (policy === undefined) return spec;
    throw new HearthError("input.invalid", `policy: the network ${network} has none.`, {
      hint: "Use --network nat, or leave the policy out.",
    });
  }
  const hint = "Use --network user, which has less isolation, or none.";
  if (limitations.network !== undefined)
    throw new HearthError("feature.missing", limitations.network, { hint });
  if (isolation.jail) return spec;
  throw new HearthError(
    "feature.missing",
    "network: nat takes a jail, because its card belongs to the uid of the VM.",
    { hint: "Leave --no-jail out, or use --network user." },
  );
}
