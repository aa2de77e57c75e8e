import type { Flow } from "#daemon/flows/flow.ts";
import type { Host } from "#daemon/host.ts";
import { enforceNetwork } from "#daemon/vm/enforce-network.ts";
import type { NetworkRules } from "#daemon/vm/enforce-network.ts";
import type { VmId } from "#model/ids.ts";
import { handleOf } from "#model/vm-state.ts";

/** The time for the policy of the row to be in force again. The signal of the change may be the reason for it. */
const UNDO_MS = 20_000;

/** The input of the undo: all that is known after a crash. */
export type PolicyLeft = { readonly host: Host; readonly id: VmId };

export type PolicyContext = PolicyLeft & {
  /** The VM with its new policy and limit. */
  readonly wanted: Pick<NetworkRules, "policy" | "netLimit">;
  /** Stores them in the row, with all else that changes. */
  readonly store: () => Promise<void>;
  readonly signal: AbortSignal;
};

/** Replaces the network policy and limit of a VM that runs. Those of the row are in force afterwards, in any case. */
export const SET_POLICY: Flow<PolicyContext, PolicyLeft> = {
  kind: "policy",
  afterCrash: "unwind",
  steps: [
    {
      name: "enforce the policy",
      run: ({ host, id, wanted, signal }) => {
        const { spec } = host.store.getVm(id);
        return enforceNetwork(host, id, { ...spec, ...wanted }, spec, signal);
      },
      undo: async ({ host, id }) => {
        const vm = host.store.findVm(id);
        // A VM whose VMM has ended has no network, or loses it when it is cleaned up.
        if (vm === undefined || handleOf(vm.state) === undefined) return;
        // What is in force is not known: all of it again.
        await enforceNetwork(host, id, vm.spec, undefined, AbortSignal.timeout(UNDO_MS));
      },
    },
    { name: "store the policy", run: ({ store }) => store() },
  ],
};
