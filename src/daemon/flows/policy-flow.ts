import type { Flow } from "#daemon/flows/flow.ts";
import type { Host } from "#daemon/host.ts";
import type { VmId } from "#model/ids.ts";
import { INTERNET } from "#model/network-policy.ts";
import type { NetworkPolicy } from "#model/network-policy.ts";
import { handleOf } from "#model/vm-state.ts";

/** The time for the policy of the row to be in force again. The signal of the change may be the reason for it. */
const UNDO_MS = 20_000;

/** The input of the undo: all that is known after a crash. */
export type PolicyLeft = { readonly host: Host; readonly id: VmId };

export type PolicyContext = PolicyLeft & {
  /** The new policy. */
  readonly policy: NetworkPolicy | undefined;
  /** Stores it in the row, with all else that changes. */
  readonly store: () => Promise<void>;
  readonly signal: AbortSignal;
};

/** Replaces the network policy of a VM that runs. What the row says is in force afterwards, however this ends. */
export const SET_POLICY: Flow<PolicyContext, PolicyLeft> = {
  kind: "policy",
  afterCrash: "unwind",
  steps: [
    {
      name: "enforce the policy",
      run: ({ host, id, policy = INTERNET, signal }) => host.helper.setNetworkPolicy(id, policy, signal),
      undo: async ({ host, id }) => {
        const vm = host.store.findVm(id);
        // A VM whose VMM has ended has no network, or loses it when it is cleaned up.
        if (vm === undefined || handleOf(vm.state) === undefined) return;
        const { policy = INTERNET } = vm.spec;
        await host.helper.setNetworkPolicy(id, policy, AbortSignal.timeout(UNDO_MS));
      },
    },
    { name: "store the policy", run: ({ store }) => store() },
  ],
};
