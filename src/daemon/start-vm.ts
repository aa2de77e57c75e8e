import { errorBody, toHearthError } from "#base/error.ts";
import type { HearthError } from "#base/error.ts";
import type { Attachment } from "#daemon/attachment.ts";
import { chooseDriver } from "#daemon/choose-driver.ts";
import { dropSnapshot, forgetMemory } from "#daemon/drop-snapshot.ts";
import { runJournaled } from "#daemon/flows/run-journaled.ts";
import { START_VM } from "#daemon/flows/start-vm.ts";
import type { Start, StartPlan } from "#daemon/flows/start-vm.ts";
import type { Host } from "#daemon/host.ts";
import type { RunningVms } from "#daemon/running-vms.ts";
import type { VmEvent, VmLoop } from "#daemon/vm-loop.ts";
import { chooseOrigin } from "#daemon/vm-origin.ts";
import type { StartHow } from "#daemon/vm-origin.ts";
import { snapshotPaths } from "#daemon/vm-paths.ts";
import type { Call } from "#daemon/vms.ts";
import { hasLayers, wokenHalf } from "#daemon/wake-vm.ts";
import { assertVolumesFree } from "#daemon/volume-users.ts";
import type { SnapshotRecord } from "#model/snapshot.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import type { VmRecord } from "#model/vm.ts";

export type StartParts = { readonly host: Host; readonly running: RunningVms; readonly loop: VmLoop };

/** What a start has found out. */
export type Started = {
  /** A template that did not work. */
  readonly gaveUp: SnapshotRecord | undefined;
};

/** To be called alone on its VM. A start that fails or is cancelled leaves nothing that runs. */
export async function startVm(parts: StartParts, vm: VmRecord, how: StartHow, call: Call): Promise<Started> {
  const { host, running, loop } = parts;
  const back = vm.state;
  assertVolumesFree(host, vm);
  loop.send({ type: "start-asked", atMs: host.now() });
  let start: Start | undefined;
  try {
    start = await planStart(parts, vm, how, call);
    const diskIsNew = back.phase === "created" && start.disk !== "keep";
    const plan: StartPlan = { back, diskIsNew, origin: vm.spec.origin };
    await running.cleaned(vm.id);
    await runJournaled(host, START_VM, vm.id, plan, { host, id: vm.id, start, ...plan }, call);
    return { gaveUp: start.gaveUp };
  } catch (error) {
    const failure = toHearthError(error);
    running.drop(vm.id);
    loop.send(afterFailure(parts, vm, start, failure, call));
    if (back.phase === "suspended" && loop.state.phase === "failed") await forgetMemory(host, vm.id);
    throw failure;
  }
}

/** A VM that was asleep sleeps on, if its guest has left no traces; with some its memory is of no use any more. */
function afterFailure(
  { host }: StartParts,
  { id, state: back }: VmRecord,
  start: Start | undefined,
  failure: HearthError,
  { signal }: Call,
): VmEvent {
  const atMs = host.now();
  // A VMM that refuses what was saved has run nothing of it.
  const refused = failure.code === "snapshot.failed" && start?.attachment === undefined;
  const leftTraces = start?.mayHaveRun === true && !refused && !hasLayers(host, id);
  if (back.phase === "suspended" && leftTraces) return { type: "start-failed", ...wokenHalf(atMs) };
  if (back.phase === "suspended" || signal.aborted) return { type: "start-cancelled", back };
  return { type: "start-failed", code: failure.code, message: errorBody(failure).message, atMs };
}

/** It may have gone already, and whoever maps it keeps what it maps. */
async function dropTemplate(host: Host, { id }: SnapshotRecord): Promise<void> {
  try {
    await dropSnapshot(host, id);
  } catch (error) {
    host.log.event("clean.left_over", { path: snapshotPaths(host.folders, id).dir, error });
  }
}

async function planStart(parts: StartParts, vm: VmRecord, how: StartHow, call: Call): Promise<Start> {
  const { host, running, loop } = parts;
  const { onProgress, signal } = call;
  const driver = await chooseDriver(host, vm.spec, signal);
  const origin = await chooseOrigin(host, vm, driver, how, signal);
  return {
    vm,
    driver,
    onProgress,
    signal,
    ...origin,
    retire: (template) => dropTemplate(host, template),
    attach: (handle: VmHandle) => running.attach(vm.id, handle),
    commit: (attachment: Attachment) => {
      running.keep(vm.id, attachment);
      // From now on its disk is its own, and what it came from is history.
      if (vm.spec.origin !== undefined) host.store.setSpec(vm.id, { ...vm.spec, origin: undefined });
      loop.send({ type: "agent-ready", handle: attachment.handle, atMs: host.now() });
      host.snapshots.touchIfThere(attachment.handle.snapshot);
    },
  };
}
