/** Changing a VM: its sizes when it does not run, its limits always, its memory within what it was started with. */
import { isDeepStrictEqual } from "node:util";
import { HearthError, invariant } from "#base/error.ts";
import { Undo } from "#base/undo.ts";
import { formatSize } from "#base/sizes.ts";
import type { SetVm } from "#api/wire.ts";
import { deviceLimits } from "#daemon/vm/boot-disks.ts";
import { driverOf } from "#daemon/spec/choose-driver.ts";
import type { Host } from "#daemon/host.ts";
import { checkRestart } from "#daemon/spec/complete-spec.ts";
import { assertLimits } from "#daemon/spec/limit-features.ts";
import { vmPaths } from "#daemon/store/paths.ts";
import type { VmId } from "#model/ids.ts";
import { changeLabels } from "#model/labels.ts";
import type { LabelChanges } from "#model/labels.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import type { VmSpec } from "#model/vm-spec.ts";
import { handleOf } from "#model/vm-state.ts";
import type { VmAction } from "#model/vm-state.ts";
import type { VmRecord } from "#model/vm.ts";

/** For a VMM that answers at all, and a guest that takes its memory back. */
const UNDO_DEADLINE_MS = 20_000;

/** Which action of the table a change is: a guest that runs takes some of them. */
export function actionOf({ labels, ...change }: SetVm): VmAction {
  if (labels !== undefined && !Object.values(change).some((value) => value !== undefined)) return "label";
  return change.cpus === undefined && change.diskBytes === undefined ? "adjust" : "set";
}

/** To be called alone on its VM, in a phase that `actionOf` allows. What cannot be done changes nothing. */
export async function setVm(host: Host, vm: VmRecord, change: SetVm, signal: AbortSignal): Promise<void> {
  const { labels: changes, ...specChange } = change;
  if (changes !== undefined) changeLabels(vm.labels, changes); // What is wrong with them is said before all else.
  const keep = (spec: VmSpec): void =>
    host.store.transaction(() => {
      host.store.setSpec(vm.id, spec);
      if (changes !== undefined) storeLabels(host, vm.id, changes);
    });
  await setSpec(host, vm, specChange, keep, signal);
  if (changes !== undefined) tellLabels(host, vm.id);
}

/**
 * Changes labels, and tells everybody. They are only in the row, so this needs no turn on the VM: it changes the labels as
 * they are now, whatever else is under way.
 * @throws HearthError `input.invalid` when there are too many labels then, `vm.not_found`
 */
export function setLabels(host: Host, id: VmId, changes: LabelChanges): VmRecord {
  storeLabels(host, id, changes);
  tellLabels(host, id);
  return host.store.getVm(id);
}

function storeLabels({ store }: Host, id: VmId, changes: LabelChanges): void {
  store.setLabels(id, changeLabels(store.getVm(id).labels, changes));
}

function tellLabels(host: Host, id: VmId): void {
  const { name, labels } = host.store.getVm(id);
  host.bus.publish({ type: "vm.labels", atMs: host.now(), id, name, labels });
}

/** @param keep changes the row, when all else is changed */
async function setSpec(
  host: Host,
  vm: VmRecord,
  change: Omit<SetVm, "labels">,
  keep: (spec: VmSpec) => void,
  signal: AbortSignal,
): Promise<void> {
  const { diskBytes, memoryBytes } = change;
  const spec = changed(vm.spec, change);
  checkRestart(spec);
  await assertLimits(host, spec, handleOf(vm.state)?.driver ?? spec.driver, signal);
  if (diskBytes !== undefined && diskBytes < vm.spec.diskBytes) {
    throw new HearthError("input.invalid", `disk: ${vm.name}'s disk cannot become smaller.`, {
      hint: "Make a new VM with a smaller disk, and copy the files.",
    });
  }
  const log = host.log.child({ vm: vm.id });
  await using undo = new Undo((step, error) => log.event("flow.undo_failed", { flow: "set", step, error }));
  const handle = handleOf(vm.state);
  if (handle !== undefined && changesLimits(vm.spec, spec)) {
    // Also what is to be taken away has to be set.
    await assertLimits(host, vm.spec, handle.driver, signal);
    const { rateLimiter } = driverOf(host, handle.driver);
    invariant(rateLimiter, "a driver with limits can change them");
    undo.add("limits", () => rateLimiter.setLimits(handle, deviceLimits(vm.spec, vm.id), undoSignal()));
    await rateLimiter.setLimits(handle, deviceLimits(spec, vm.id), signal);
  }
  if (handle !== undefined && memoryBytes !== undefined)
    await moveMemory(host, vm, handle, memoryBytes, undo, signal);
  if (diskBytes !== undefined) await host.disks.grow(vmPaths(host.dirs, vm.id).stateDir, diskBytes, signal);
  keep(spec);
  undo.keep();
}

/** A limit that is not there needs no driver to be taken away. */
function changesLimits(before: VmSpec, after: VmSpec): boolean {
  return !isDeepStrictEqual([before.diskLimit, before.netLimit], [after.diskLimit, after.netLimit]);
}

/** Not the caller's signal: that may be why something is taken back. */
function undoSignal(): AbortSignal {
  return AbortSignal.timeout(UNDO_DEADLINE_MS);
}

/** Null takes a limit away; what is undefined stays. */
function changed(spec: VmSpec, change: Omit<SetVm, "labels">): VmSpec {
  const given = Object.entries(change).filter(([, value]) => value !== undefined);
  const fields = Object.fromEntries(given.map(([name, value]) => [name, value ?? undefined]));
  return { ...spec, ...(fields as Partial<VmSpec>) };
}

/** @throws HearthError `input.invalid` above what it was started with, `feature.missing` when nothing moves */
async function moveMemory(
  host: Host,
  vm: VmRecord,
  handle: VmHandle,
  bytes: number,
  undo: Undo,
  signal: AbortSignal,
): Promise<void> {
  const driver = driverOf(host, handle.driver);
  const { ballooner } = driver;
  const { balloon } = await driver.features(signal);
  if (!balloon || ballooner === undefined) {
    throw new HearthError(
      "feature.missing",
      `The driver ${driver.name} cannot change memory while a VM runs.`,
      {
        hint: `Stop it first: \`hearth stop ${vm.name}\`.`,
      },
    );
  }
  const before = await ballooner.readMemory(handle, signal);
  if (bytes > before.maxBytes) {
    const had = formatSize(before.maxBytes);
    throw new HearthError("input.invalid", `memory: ${vm.name} was started with ${had}, and runs.`, {
      hint: `Stop it first, for more than that: \`hearth stop ${vm.name}\`.`,
    });
  }
  // So that nothing happens later either, when a guest finds its driver after all.
  undo.add("memory", () => ballooner.setMemory(handle, before.bytes, undoSignal()));
  const after = await ballooner.setMemory(handle, bytes, signal);
  if (after.bytes !== before.bytes || bytes === before.bytes) return;
  throw new HearthError("feature.missing", `${vm.name}'s guest gave no memory back.`, {
    hint: "Its kernel needs the module virtio_balloon. The kernels of `hearth image build --fresh` have it; or stop the VM first.",
  });
}
