import { errorBody, toHearthError } from "#base/error.ts";
import { specForRestore } from "#daemon/snapshot/snapshot-spec.ts";
import { chooseDriver } from "#daemon/spec/choose-driver.ts";
import { vmPaths } from "#daemon/store/paths.ts";
import { diskFrom } from "#daemon/vm/boot-disks.ts";
import { discardSuspended } from "#daemon/vm/discard-suspended.ts";
import { stopVm } from "#daemon/vm/stop-vm.ts";
import type { VmController } from "#daemon/vm/vm-controller.ts";
import type { VmControllers } from "#daemon/vm/vm-controllers.ts";
import { chooseStartSource } from "#daemon/vm/start-source.ts";
import type { Call } from "#daemon/vm/vms.ts";
import type { SnapshotRecord } from "#model/snapshot.ts";
import { handleOf } from "#model/vm-state.ts";

/**
 * Restores a VM from a snapshot. The caller has its lock.
 *
 * 1. Check that the snapshot can be restored, before anything is ended.
 * 2. Kill the VMM, if the VM runs.
 * 3. Delete the memory of a suspended VM, and store that the restore is pending: if it does not finish, each start
 *    tries it again until one succeeds.
 * 4. Start the VM from the snapshot. After a disk-only snapshot, it starts only if it ran before.
 */
export async function restoreVm(
  controllers: VmControllers,
  controller: VmController,
  snapshot: SnapshotRecord,
  call: Call,
): Promise<void> {
  const { host, id } = controller;
  const { signal } = call;
  const vm = host.store.getVm(id);
  const spec = { ...specForRestore(vm.spec, snapshot.spec), sourceSnapshot: undefined };
  const before = { ...vm, spec };
  await chooseStartSource(host, before, await chooseDriver(host, spec, signal), { from: snapshot }, signal);
  const ran = handleOf(vm.state) !== undefined;
  if (ran) await stopVm(controller, before, { mode: "kill", timeoutMs: 0 }, call);
  const pending = { ...spec, sourceSnapshot: snapshot.id };
  await discardSuspended(controller, () => host.store.setSpec(id, pending));
  try {
    if (snapshot.shape !== undefined || ran) return await controllers.start(id, call, { from: snapshot });
    await diskFrom(host, vmPaths(host.dirs, id).stateDir, snapshot, signal);
    host.store.setSpec(id, spec);
  } catch (error) {
    sayPending(controller, snapshot, error);
    throw error;
  }
}

function sayPending(controller: VmController, { name, id }: SnapshotRecord, error: unknown): void {
  const failure = toHearthError(error);
  if (failure.code === "vm.unclean") return;
  const message =
    `The restore of snapshot ${name ?? id} did not finish; the next start continues it: ` +
    errorBody(failure).message;
  controller.send({ type: "broke", code: failure.code, message, atMs: controller.host.now() });
}
