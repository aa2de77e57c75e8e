import { errorBody, toHearthError } from "#base/error.ts";
import type { Attachment } from "#daemon/attachment.ts";
import { chooseDriver } from "#daemon/choose-driver.ts";
import { runJournaled } from "#daemon/flows/run-journaled.ts";
import { START_VM } from "#daemon/flows/start-vm.ts";
import type { Start, StartPlan } from "#daemon/flows/start-vm.ts";
import type { Host } from "#daemon/host.ts";
import type { RunningVms } from "#daemon/running-vms.ts";
import type { VmLoop } from "#daemon/vm-loop.ts";
import { chooseOrigin } from "#daemon/vm-origin.ts";
import type { StartHow } from "#daemon/vm-origin.ts";
import type { Call } from "#daemon/vms.ts";
import { hasLayers } from "#daemon/wake-vm.ts";
import { assertVolumesFree } from "#daemon/volume-users.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import type { VmRecord } from "#model/vm.ts";

export type StartParts = { readonly host: Host; readonly running: RunningVms; readonly loop: VmLoop };

/** To be called alone on its VM. A start that fails or is cancelled leaves nothing that runs. */
export async function startVm(parts: StartParts, vm: VmRecord, how: StartHow, call: Call): Promise<void> {
  const { host, running, loop } = parts;
  const back = vm.state;
  assertVolumesFree(host, vm);
  loop.send({ type: "start-asked", atMs: host.now() });
  try {
    const start = await planStart(parts, vm, how, call);
    const plan: StartPlan = { back, diskIsNew: back.phase === "created" && start.disk !== "keep" };
    await running.cleaned(vm.id);
    await runJournaled(host, START_VM, vm.id, plan, { host, id: vm.id, start, ...plan }, call);
  } catch (error) {
    const failure = toHearthError(error);
    running.drop(vm.id);
    const { code } = failure;
    // A VM that was asleep sleeps on, if its guest has left no traces.
    const asleep = back.phase === "suspended" && hasLayers(host, vm.id);
    if (call.signal.aborted || asleep) loop.send({ type: "start-cancelled", back });
    else loop.send({ type: "start-failed", code, message: errorBody(failure).message, atMs: host.now() });
    throw failure;
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
    retire: (template) => host.snapshots.retire(template.id),
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
