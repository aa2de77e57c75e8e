import { errorBody, HearthError, toHearthError } from "#base/error.ts";
import type { Attachment } from "#daemon/vm/attachment.ts";
import { chooseDriver } from "#daemon/spec/choose-driver.ts";
import { deleteSnapshot, deleteSuspendedMemory } from "#daemon/snapshot/delete-snapshot.ts";
import { runJournaled } from "#daemon/flows/run-journaled.ts";
import { START_VM } from "#daemon/flows/start-flow.ts";
import type { Start, StartPlan } from "#daemon/flows/start-flow.ts";
import type { Host } from "#daemon/host.ts";
import type { VmController } from "#daemon/vm/vm-controller.ts";
import { chooseStartSource } from "#daemon/vm/start-source.ts";
import type { StartOptions } from "#daemon/vm/start-source.ts";
import { snapshotPaths, vmPaths } from "#daemon/store/paths.ts";
import type { Call } from "#daemon/vm/vms.ts";
import { hasLayers, stateBefore, failedResume } from "#daemon/vm/retry-resume.ts";
import { assertVolumesFree } from "#daemon/vm/volume-users.ts";
import type { SnapshotId, VmId } from "#model/ids.ts";
import type { SnapshotRecord } from "#model/snapshot.ts";
import { StageClock } from "#model/start-stage.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import type { VmEvent } from "#model/decide-vm.ts";
import type { VmRecord } from "#model/vm.ts";
import { neverRan } from "#model/vm-state.ts";

/** The findings of a start. */
export type StartResult = {
  /** A template that could not be restored. */
  readonly failedTemplate: SnapshotRecord | undefined;
};

/** Starts a VM. The caller has its lock. A start that fails or is cancelled leaves nothing that runs. */
export async function startVm(
  controller: VmController,
  vm: VmRecord,
  options: StartOptions,
  call: Call,
): Promise<StartResult> {
  const { host } = controller;
  const back = vm.state;
  if (vm.unreadable) throw damagedRow(host, vm);
  assertVolumesFree(host, vm);
  controller.send({ type: "start-asked", atMs: host.now() }, () => {
    host.store.setDesired(vm.id, "running");
  });
  let start: Start | undefined;
  const clock = new StageClock();
  try {
    start = await planStart(controller, vm, options, clock, call);
    const diskIsNew = neverRan(back) && start.disk !== "keep";
    using _turn = start.memory === undefined ? await turnToBoot(host, call) : undefined;
    using _memory = host.memory.promise(vm, start.memory !== undefined);
    const plan: StartPlan = { back, diskIsNew, sourceSnapshot: vm.spec.sourceSnapshot, fresh: options.fresh };
    await controller.cleaned();
    await runJournaled(host, START_VM, vm.id, plan, { host, id: vm.id, start, ...plan }, call);
  } catch (error) {
    const failure = toHearthError(error);
    controller.closeSession();
    const before = { ...vm, state: stateBefore(host, vm.id, back, options.fresh) };
    controller.send(afterFailure(host, before, start, failure, call), () => {
      // A commit that failed may have been stored all the same.
      if (vm.spec.sourceSnapshot !== undefined) host.store.setSpec(vm.id, vm.spec);
    });
    const { state } = controller;
    // While the start is not undone, it is unknown whether the memory can be restored again.
    const isLost = back.phase === "suspended" && state.phase === "failed" && state.code !== "vm.unclean";
    if (isLost) await deleteSuspendedMemory(host, vm.id);
    throw failure;
  }
  controller.touch();
  controller.armLifetime(host.store.getVm(vm.id));
  if (back.phase === "suspended") await deleteSuspendedMemory(host, vm.id);
  return { failedTemplate: start.failedTemplate };
}

/** Waits for a turn to boot. A guest that is restored needs little CPU time, and does not wait. */
function turnToBoot({ boots }: Host, { onProgress, signal }: Call): Promise<Disposable> {
  return boots.take(signal, (waiting) => {
    const before = waiting === 0 ? "" : `, ${waiting} more waiting`;
    onProgress({ stage: "boot", text: `waiting for other VMs to boot${before}` });
  });
}

/**
 * Returns the event of a start that failed. A suspended VM stays suspended, unless its guest may have changed its disk:
 * then its memory no longer matches the disk.
 */
function afterFailure(
  host: Host,
  { id, state: back }: VmRecord,
  start: Start | undefined,
  failure: HearthError,
  { signal }: Call,
): VmEvent {
  const atMs = host.now();
  const { code } = failure;
  const failed = { type: "start-failed", code, message: errorBody(failure).message, atMs } as const;
  if (code === "vm.unclean") return failed;
  // A VMM that refuses the snapshot's files has run nothing of the guest.
  const refused = failure.code === "snapshot.failed" && start?.attachment === undefined;
  const leftTraces = start?.mayHaveRun === true && !refused && !hasLayers(host, id);
  if (back.phase === "suspended" && leftTraces) return { type: "start-failed", ...failedResume(atMs) };
  // A VM that is refused for lack of host memory was not touched.
  const isUntouched = back.phase === "suspended" || signal.aborted || code === "host.memory_short";
  if (isUntouched) return { type: "start-cancelled", back };
  return { ...failed, ...(neverRan(back) && { neverRan: true }) };
}

function damagedRow(host: Host, { name, id }: VmRecord): HearthError {
  const { stateDir } = vmPaths(host.dirs, id);
  return new HearthError("store.corrupt", `Cannot start ${name}: its row in ${host.store.path} is damaged.`, {
    hint: `Restore the store from a backup. Its disk is in ${stateDir}, and was not changed.`,
  });
}

/** Notes that a snapshot is used. If that cannot be stored, it is logged: the VM that runs matters more. */
function touchSnapshot(host: Host, vm: VmId, id: SnapshotId | undefined): void {
  try {
    host.snapshots.touchIfThere(id);
  } catch (error) {
    host.log.child({ vm }).event("vm.use_not_kept", { error });
  }
}

/** Deletes a template. It may be deleted already, and VMMs that have mapped it keep their mapping. */
async function deleteTemplate(host: Host, { id }: SnapshotRecord): Promise<void> {
  try {
    await deleteSnapshot(host, id);
  } catch (error) {
    host.log.event("clean.left_over", { path: snapshotPaths(host.dirs, id).dir, error });
  }
}

async function planStart(
  controller: VmController,
  vm: VmRecord,
  options: StartOptions,
  clock: StageClock,
  call: Call,
): Promise<Start> {
  const { host } = controller;
  const { onProgress, signal } = call;
  const driver = await chooseDriver(host, vm.spec, signal);
  const source = await chooseStartSource(host, vm, driver, options, signal);
  const start: Start = {
    vm,
    driver,
    onProgress,
    signal,
    clock,
    ...source,
    discardTemplate: (template) => deleteTemplate(host, template),
    attach: (handle: VmHandle) => controller.attach(handle),
    commit: (attachment: Attachment) => {
      const { guestWarnings = [] } = start;
      const handle = { ...attachment.handle, guestWarnings, startStages: clock.stages };
      controller.keep(attachment);
      // From here on the disk is the VM's own, its source snapshot is history, and nothing is to be undone.
      controller.send({ type: "agent-ready", handle, atMs: host.now() }, () => {
        if (vm.spec.sourceSnapshot !== undefined)
          host.store.setSpec(vm.id, { ...vm.spec, sourceSnapshot: undefined });
        host.journals.end("start", vm.id);
      });
      touchSnapshot(host, vm.id, handle.snapshot);
    },
  };
  return start;
}
