import { HearthError } from "#base/error.ts";
import type { Guest } from "#daemon/host.ts";
import { driverOf } from "#daemon/spec/choose-driver.ts";
import type { NewVm } from "#daemon/store/store.ts";
import { guestIdentity } from "#daemon/vm/boot-plan.ts";
import { enforceNetwork } from "#daemon/vm/enforce-network.ts";
import { configureGuest } from "#daemon/vm/guest-clock.ts";
import { logWarnings } from "#daemon/vm/guest-warnings.ts";
import type { VmController } from "#daemon/vm/vm-controller.ts";
import type { VmRecord } from "#model/vm.ts";
import type { Configured } from "#guest/agent-client.ts";
import { handleOf } from "#model/vm-state.ts";

/** The name, labels and spec that a pooled VM gets from its caller. */
export type PoolAssignment = Pick<NewVm, "name" | "labels" | "spec" | "ephemeral">;

/**
 * Gives a VM that waited in a pool, paused, to a caller: enforces its network policy, resumes it, and sets its new
 * identity. The caller has the VM's lock.
 * @throws HearthError `vm.gone` if it ended while it waited
 */
export async function claimVm(
  controller: VmController,
  waiting: VmRecord,
  as: PoolAssignment,
  signal: AbortSignal,
): Promise<void> {
  const { host, id, attachment } = controller;
  const { name, labels = {}, spec } = as;
  const vm = { ...waiting, name, spec };
  const handle = handleOf(controller.state);
  if (handle === undefined || attachment === undefined)
    throw new HearthError("vm.gone", "The VM of the pool no longer exists.");
  // Before the guest runs: it waited with the policy of its pool.
  if (spec.network === "nat") await enforceNetwork(host, id, spec, waiting.spec, signal);
  await driverOf(host, handle.driver).resume(handle, signal);
  const identity = await guestIdentity(host, vm, handle, true, signal);
  const configure = (guest: Guest, inTime: AbortSignal): Promise<Configured> =>
    configureGuest(host, guest, identity, inTime);
  const { warnings } = await attachment.ask(configure, signal);
  logWarnings(host, id, warnings);
  // The row changes last, in one transaction. If hearthd crashes earlier, recovery removes the pooled VM.
  host.store.transaction(() => {
    host.store.claimVm(id, as);
    controller.publish(vm, { type: "vm.created", atMs: host.now(), id, name, labels });
    controller.send({ type: "resumed", guestWarnings: warnings });
  });
  controller.armLifetime(host.store.getVm(id));
}
