import type { VmNetworkView } from "#api/wire.ts";
import type { Host } from "#daemon/host.ts";
import { parseCounters } from "#daemon/view/policy-counters.ts";
import { INTERNET } from "#model/network-policy.ts";
import { handleOf } from "#model/vm-state.ts";
import type { VmRecord } from "#model/vm.ts";

/**
 * Shows the network of a VM, with the counters of its policy while it runs.
 * @param rules whether to include the nftables rules
 */
export async function networkView(
  { helper }: Pick<Host, "helper">,
  { id, spec, state }: VmRecord,
  rules: boolean,
  signal: AbortSignal,
): Promise<VmNetworkView> {
  const { network, policy = INTERNET } = spec;
  if (network !== "nat") return { network };
  if (handleOf(state) === undefined) return { network, policy };
  const counters = parseCounters(await helper.readNetworkRules(id, "counters", signal));
  const nftRules = rules ? await helper.readNetworkRules(id, "rules", signal) : undefined;
  return { network, policy, counters, nftRules };
}
