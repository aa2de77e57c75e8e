import { HearthError } from "#base/error.ts";
import type { Guest } from "#daemon/host.ts";
import { driverOf } from "#daemon/spec/choose-driver.ts";
import type { NewVm } from "#daemon/store/store.ts";
import { guestIdentity } from "#daemon/vm/boot-plan.ts";
import { configureGuest } from "#daemon/vm/guest-clock.ts";
import { logWarnings } from "#daemon/vm/guest-warnings.ts";
import type { VmController } from "#daemon/vm/vm-controller.ts";
import type { VmRecord } from "#model/vm.ts";
import type { Configured } from "#guest/agent-client.ts";
import { handleOf } from "#model/vm-state.ts";

/** What a VM of a pool becomes. */
export type PoolAssignment = Pick<NewVm, "name" | "labels" | "spec" | "bound">;

/**
 * Makes a VM that waited in a pool, paused, the caller's: it is resumed as another one. To be called alone on the VM.
 * @throws HearthError `vm.gone` for one that has ended while it waited
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
    throw new HearthError("vm.gone", "The VM that waited is gone.");
  await driverOf(host, handle.driver).resume(handle, signal);
  const identity = await guestIdentity(host, vm, handle, true, signal);
  const configure = (guest: Guest, inTime: AbortSignal): Promise<Configured> =>
    configureGuest(host, guest, identity, inTime);
  const { warnings } = await attachment.ask(configure, signal);
  logWarnings(host, id, warnings);
  // Until it is the caller's altogether, it is nobody's: a hearthd that comes back takes it away.
  host.store.transaction(() => {
    host.store.claimVm(id, as);
    controller.publish(vm, { type: "vm.created", atMs: host.now(), id, name, labels });
    controller.send({ type: "resumed", guestWarnings: warnings });
  });
  controller.armLifetime(host.store.getVm(id));
}
