import { isDeepStrictEqual } from "node:util";
import type { Host } from "#daemon/host.ts";
import { findResolver } from "#host/resolver.ts";
import type { VmId } from "#model/ids.ts";
import { INTERNET } from "#model/network-policy.ts";
import { withoutComments } from "#model/policy-comment.ts";
import type { VmSpec } from "#model/vm-spec.ts";

/** The parts of a spec that the network namespace of a VM enforces. */
export type NetworkRules = Pick<VmSpec, "policy" | "netLimit" | "networks">;

/**
 * Puts the policy and the limit in force in the network of a VM that runs, or those that differ from `before`: a policy
 * that is loaded again begins to count anew.
 */
export async function enforceNetwork(
  { helper }: Pick<Host, "helper">,
  id: VmId,
  { policy = INTERNET, netLimit = {}, networks }: NetworkRules,
  before: NetworkRules | undefined,
  signal: AbortSignal,
): Promise<void> {
  const isKept = (one: unknown, other: unknown): boolean =>
    before !== undefined && isDeepStrictEqual(one, other);
  const rules = withoutComments(policy);
  if (!isKept(rules, withoutComments(before?.policy ?? INTERNET)))
    await helper.setNetworkPolicy(id, { policy: rules, networks, resolver: findResolver() }, signal);
  if (!isKept(netLimit, before?.netLimit ?? {})) await helper.setNetworkLimit(id, netLimit, signal);
}
