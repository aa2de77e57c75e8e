/**
 * Changes a VM: its sizes while it is stopped; its limits and network policy always; its memory, while it runs, up to what it was started
 * with.
 */
import { isDeepStrictEqual } from "node:util";
import { HearthError, invariant } from "#base/error.ts";
import { Undo } from "#base/undo.ts";
import { formatSize } from "#base/sizes.ts";
import type { SetVm } from "#api/wire.ts";
import { deviceLimits } from "#daemon/vm/boot-disks.ts";
import { driverOf } from "#daemon/spec/choose-driver.ts";
import type { Host } from "#daemon/host.ts";
import { checkRestart } from "#daemon/spec/complete-spec.ts";
import { checkNetwork } from "#daemon/spec/check-network.ts";
import { withNamedPolicy } from "#daemon/spec/resolve-policy.ts";
import { assertLimits } from "#daemon/spec/limit-features.ts";
import { SET_POLICY } from "#daemon/flows/policy-flow.ts";
import { runJournaled } from "#daemon/flows/run-journaled.ts";
import { vmPaths } from "#daemon/store/paths.ts";
import type { RequestContext as Call } from "#daemon/operations/request-context.ts";
import type { VmId } from "#model/ids.ts";
import { changeLabels } from "#model/labels.ts";
import type { LabelChanges } from "#model/labels.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import type { VmSpec } from "#model/vm-spec.ts";
import { handleOf } from "#model/vm-state.ts";
import type { VmAction } from "#model/vm-state.ts";
import type { VmRecord } from "#model/vm.ts";

/** The time for a VMM that answers, and for a guest that takes memory again. */
const UNDO_DEADLINE_MS = 20_000;

/** Returns the action that a change is in the table of allowed actions: a running VM takes some changes. */
export function actionOf({ labels, ...change }: SetVm): VmAction {
  if (labels !== undefined && !Object.values(change).some((value) => value !== undefined)) return "label";
  return change.cpus === undefined && change.diskBytes === undefined ? "adjust" : "set";
}

/** Changes a VM, or nothing of it. The caller has its lock, in a phase that `actionOf` allows. */
export async function setVm(host: Host, vm: VmRecord, asked: SetVm, call: Call): Promise<void> {
  const change = withNamedPolicy(host, asked);
  const { labels: changes, ...specChange } = change;
  // Invalid labels are reported before anything is changed.
  if (changes !== undefined) changeLabels(vm.labels, changes);
  const keep = (spec: VmSpec): void =>
    host.store.transaction(() => {
      host.store.setSpec(vm.id, spec);
      if (changes !== undefined) storeLabels(host, vm.id, changes);
    });
  const set = (): Promise<void> => setSpec(host, vm, specChange, keep, call.signal);
  await withNetwork(host, vm, change, set, call);
  if (changes !== undefined) tellLabels(host, vm.id);
}

/**
 * Changes labels, and publishes that. They are only in the row, so this needs no lock: it changes the labels as they
 * are now, whatever else is under way.
 * @throws HearthError `input.invalid` when there would be too many labels, `vm.not_found`
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

/**
 * Puts a new network policy and limit in force if the VM runs, and makes the change that stores them.
 * @throws HearthError `input.invalid` for a VM that has no policy
 */
async function withNetwork(
  host: Host,
  vm: VmRecord,
  { policy, netLimit }: SetVm,
  store: () => Promise<void>,
  call: Call,
): Promise<void> {
  const { spec } = vm;
  const wanted = {
    policy: policy === undefined ? spec.policy : (policy ?? undefined),
    netLimit: netLimit === undefined ? spec.netLimit : (netLimit ?? undefined),
  };
  if (policy !== undefined) checkNetwork(host, { ...spec, ...wanted });
  const isSame = isDeepStrictEqual([spec.policy, spec.netLimit], [wanted.policy, wanted.netLimit]);
  if (spec.network !== "nat" || isSame || handleOf(vm.state) === undefined) return store();
  const context = { host, id: vm.id, wanted, store, signal: call.signal };
  await runJournaled(host, SET_POLICY, vm.id, {}, context, call);
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
    throw new HearthError("input.invalid", `disk: the disk of ${vm.name} cannot shrink.`, {
      hint: "Create a VM with a smaller disk, and copy the files.",
    });
  }
  const log = host.log.child({ vm: vm.id });
  await using undo = new Undo((step, error) => log.event("flow.undo_failed", { flow: "set", step, error }));
  const handle = handleOf(vm.state);
  if (handle !== undefined && changesLimits(vm, spec)) {
    // A limit that is removed has to be one that the driver can set, too.
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

/** Tells whether limits of the VMM change: one that does not exist, and stays so, needs nothing of the driver. */
function changesLimits({ id, spec }: VmRecord, after: VmSpec): boolean {
  return !isDeepStrictEqual(deviceLimits(spec, id), deviceLimits(after, id));
}

/** Returns a signal for an undo. The caller's may be the reason for the undo. */
function undoSignal(): AbortSignal {
  return AbortSignal.timeout(UNDO_DEADLINE_MS);
}

/** Returns the spec after the change. Null removes a limit; undefined keeps a value. */
function changed(spec: VmSpec, change: Omit<SetVm, "labels">): VmSpec {
  const given = Object.entries(change).filter(([, value]) => value !== undefined);
  const fields = Object.fromEntries(given.map(([name, value]) => [name, value ?? undefined]));
  return { ...spec, ...(fields as Partial<VmSpec>) };
}

/**
 * Changes the memory of a running VM. @throws HearthError `input.invalid` above what it was started with,
 * `feature.missing` when the guest gives none back
 */
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
      `The driver ${driver.name} cannot change the memory of a running VM.`,
      {
        hint: `Stop it first: \`hearth stop ${vm.name}\`.`,
      },
    );
  }
  const before = await ballooner.readMemory(handle, signal);
  if (bytes > before.maxBytes) {
    const had = formatSize(before.maxBytes);
    throw new HearthError(
      "input.invalid",
      `memory: ${vm.name} is running and was started with ${had}, which is its limit until the next start.`,
      {
        hint: `To give it more, stop it first: \`hearth stop ${vm.name}\`.`,
      },
    );
  }
  // Undone also when nothing moved: a guest that loads its balloon driver later would act on the request.
  undo.add("memory", () => ballooner.setMemory(handle, before.bytes, undoSignal()));
  const after = await ballooner.setMemory(handle, bytes, signal);
  if (after.bytes !== before.bytes || bytes === before.bytes) return;
  throw new HearthError("feature.missing", `The guest of ${vm.name} gave no memory back.`, {
    hint: "Its kernel needs the module virtio_balloon, which kernels of `hearth image build --fresh` have. Or stop the VM first.",
  });
}
