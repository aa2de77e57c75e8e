import type { Flow } from "#daemon/flows/flow.ts";
import type { Host } from "#daemon/host.ts";
import type { VmId } from "#model/ids.ts";
import { INTERNET } from "#model/network-policy.ts";
import type { VmSpec } from "#model/vm-spec.ts";
import { handleOf } from "#model/vm-state.ts";

/** The time for the policy of the row to be in force again. The signal of the change may be the reason for it. */
const UNDO_MS = 20_000;

/** The input of the undo: all that is known after a crash. */
export type PolicyLeft = { readonly host: Host; readonly id: VmId };

export type PolicyContext = PolicyLeft & {
  /** The VM with its new policy and limit. */
  readonly wanted: NetworkRules;
  /** Stores them in the row, with all else that changes. */
  readonly store: () => Promise<void>;
  readonly signal: AbortSignal;
};

type NetworkRules = Pick<VmSpec, "policy" | "netLimit">;

/** Replaces the network policy and limit of a VM that runs. Those of the row are in force afterwards, in any case. */
export const SET_POLICY: Flow<PolicyContext, PolicyLeft> = {
  kind: "policy",
  afterCrash: "unwind",
  steps: [
    {
      name: "enforce the policy",
      run: ({ host, id, wanted, signal }) => enforce(host, id, wanted, signal),
      undo: async ({ host, id }) => {
        const vm = host.store.findVm(id);
        // A VM whose VMM has ended has no network, or loses it when it is cleaned up.
        if (vm === undefined || handleOf(vm.state) === undefined) return;
        await enforce(host, id, vm.spec, AbortSignal.timeout(UNDO_MS));
      },
    },
    { name: "store the policy", run: ({ store }) => store() },
  ],
};

async function enforce(
  { helper }: Host,
  id: VmId,
  { policy = INTERNET, netLimit = {} }: NetworkRules,
  signal: AbortSignal,
): Promise<void> {
  await helper.setNetworkPolicy(id, policy, signal);
  await helper.setNetworkLimit(id, netLimit, signal);
}
