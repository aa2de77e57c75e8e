/**
 * Recovers the VMs when hearthd starts: makes the host be as the store says.
 *
 * First it is listed what exists on the host, and every VM is locked; from then on hearthd may listen. All VMs are
 * recovered at the same time, each with its lock:
 *
 *  1. Undo or finish the flows that were under way, as their journals say (`recover-flow.ts`).
 *  2. Resume a VM that was being suspended.
 *  3. Adopt a VMM that still runs; a VM whose VMM has ended is stopped.
 *  4. Remove what an ended VMM has left (`sweep.ts`), and incomplete snapshots.
 *  5. Remove an ephemeral VM, whose client's connection ended with the last hearthd.
 *
 * Directories that no row names are moved to `lost+found`. A store that is older than the files beside it, such as one
 * from a backup, removes nothing (`older-store.ts`). A VM that cannot be recovered is shown as failed, and keeps
 * neither the others nor hearthd waiting. One whose recovery takes long, because its guest takes an hour to power off,
 * is busy meanwhile.
 */
import { errorBody } from "#base/error.ts";
import { driverOf } from "#daemon/spec/choose-driver.ts";
import { resumeSuspending, sweepSnapshots } from "#daemon/snapshot/recover-snapshots.ts";
import { resumeAfterSave } from "#daemon/snapshot/quiesce-vm.ts";
import type { Host } from "#daemon/host.ts";
import { acceptOlderStore } from "#daemon/store/older-store.ts";
import { tryFlowsOf } from "#daemon/lifecycle/recover-flow.ts";
import { findOnHost, sweepSnapshotDirs, sweepVm } from "#daemon/lifecycle/sweep.ts";
import type { FoundOnHost } from "#daemon/lifecycle/sweep.ts";
import { vmPaths } from "#daemon/store/paths.ts";
import type { VmController } from "#daemon/vm/vm-controller.ts";
import type { Vms } from "#daemon/vm/vms.ts";
import type { VmFailure } from "#model/decide-vm.ts";
import { handleOf, neverRan } from "#model/vm-state.ts";
import type { VmState } from "#model/vm-state.ts";
import type { VmId } from "#model/ids.ts";
import type { SnapshotRecord } from "#model/snapshot.ts";
import type { VmRecord } from "#model/vm.ts";

export type Recovery = {
  /** Resolves when every VM is recovered. Rejects only when the store fails. */
  readonly done: Promise<void>;
};

/** The input of one recovery. VMs and snapshots that are made meanwhile are not in it. */
type Recovering = { readonly host: Host; readonly vms: Vms; readonly found: FoundOnHost };

/**
 * Begins the recovery. Call this before anything else is done to VMs. Resolves when every VM is locked, so that
 * requests may come.
 */
export async function recover(host: Host, vms: Vms): Promise<Recovery> {
  const { isOlder } = host.store;
  if (isOlder) await acceptOlderStore(host);
  const recovering = { host, vms, found: await findOnHost(host) };
  const records = host.store.listVms();
  const ephemeral = new Set(host.store.listEphemeral().map(({ id }) => id));
  const snapshots = host.snapshots.list();
  const work = records.map((vm) =>
    recoverVm(
      recovering,
      vm,
      snapshots.filter(({ vmId }) => vmId === vm.id),
      ephemeral.has(vm.id),
    ),
  );
  const known = new Set<string>(records.map(({ id }) => id));
  const rest = sweepRest(
    recovering,
    known,
    snapshots.filter(({ vmId }) => !known.has(vmId)),
  );
  const finish = async (): Promise<void> => {
    await Promise.all([...work, rest]);
    await sweepSnapshotDirs(host, recovering.found);
    host.store.acceptAge();
  };
  const done = finish();
  // Nothing may be made meanwhile that an older store would mistake for its own.
  if (isOlder) await done;
  return { done };
}

/** Recovers one VM. Never rejects: errors are logged, and shown with the VM. */
async function recoverVm(
  recovering: Recovering,
  vm: VmRecord,
  snapshots: readonly SnapshotRecord[],
  isEphemeral: boolean,
): Promise<void> {
  const { host, vms } = recovering;
  const { id, name } = vm;
  try {
    await vms.controllers.recover(vm, (signal) => reconcile(recovering, id, snapshots, signal));
    if (await removeEphemeral(recovering, id, isEphemeral)) await sweepSnapshots(host, snapshots);
  } catch (error) {
    host.log.child({ vm: id }).event("daemon.bug", { where: `recovery of ${name}`, error });
  }
}

async function reconcile(
  { host, vms, found }: Recovering,
  id: VmId,
  snapshots: readonly SnapshotRecord[],
  signal: AbortSignal,
): Promise<void> {
  await tryFlowsOf(vms.controllers, id, signal);
  // A kill has taken over from a stop that was to be finished. It needs neither the agent nor a watch.
  if (signal.aborted) return;
  const vm = host.store.findVm(id);
  const isResumed = vm === undefined || (await resumeSuspending(host, vm, snapshots));
  const isKnown = vm === undefined || (await tryAdopt(host, vms, id));
  if (isKnown) await sweepVm(host, found, id);
  if (isResumed) await sweepSnapshots(host, snapshots);
}

/** Removes what belongs to no VM of the store. */
async function sweepRest(
  { host, vms, found }: Recovering,
  known: ReadonlySet<string>,
  snapshots: readonly SnapshotRecord[],
): Promise<void> {
  const { signal } = new AbortController();
  const begun = host.journals.listOpen().map(({ vmId }) => vmId);
  const names = new Set<string>([...begun, ...found.owners, ...found.stateDirs]);
  for (const name of names) {
    if (known.has(name)) continue;
    await tryFlowsOf(vms.controllers, name, signal);
    await sweepVm(host, found, name);
  }
  await sweepSnapshots(host, snapshots);
}

/** Adopts the VM's VMM, if it runs. Returns false when it cannot be determined whether it does. */
async function tryAdopt(host: Host, vms: Vms, id: VmId): Promise<boolean> {
  const vm = host.store.getVm(id);
  try {
    await adoptVmm(host, vms, vm);
    return true;
  } catch (error) {
    host.log.child({ vm: id }).event("vm.not_recovered", { error });
    lose(vms, vm, { code: "vm.unclean", message: errorBody(error).message });
    return false;
  }
}

async function adoptVmm(host: Host, vms: Vms, vm: VmRecord): Promise<void> {
  const controller = vms.controllers.of(vm.id);
  const handle = handleOf(vm.state);
  if (handle === undefined) {
    // The start was not journaled yet, or its journal was lost in a power cut.
    if (vm.state.phase === "starting")
      controller.send({ type: "start-undone", back: vm.state.back ?? unseen(host) });
    return;
  }
  const log = host.log.child({ vm: vm.id });
  const stop = host.journals.listOpen().find(({ kind, vmId }) => kind === "stop" && vmId === vm.id);
  if (await driverOf(host, handle.driver).recover(handle)) {
    if (vm.state.phase === "stopping") await undoStop(controller);
    host.journals.end("stop", vm.id);
    controller.adopt(host.store.getVm(vm.id), handle);
    log.event("vm.adopted", { pid: handle.processes[0].pid });
    return;
  }
  // If the VM was being suspended, only the journal says where its memory is.
  const message = "Its VMM has ended, and its leftovers could not be removed.";
  lose(vms, vm, stop && { code: "vm.unclean", message });
  log.event("vm.lost", { pid: handle.processes[0].pid });
}

/** Returns the state of a VM whose end was not seen. Not `created`: a start would replace its disk by a template's. */
function unseen(host: Host): VmState {
  return { phase: "stopped", exit: { reason: "unseen", atMs: host.now() } };
}

/** Notes that the VMM has ended unseen. With `failure`, it is unknown what is left. */
function lose({ controllers }: Vms, { id }: VmRecord, failure?: VmFailure): void {
  const exit = { reason: "unseen", atMs: controllers.host.now() } as const;
  controllers.of(id).send({ type: "vmm-exited", exit, failure });
}

/**
 * Undoes a stop that was not journaled, so that it has done nothing yet. For a suspend, the VM was paused and frozen:
 * it is resumed.
 */
async function undoStop(controller: VmController): Promise<void> {
  const { host, id } = controller;
  controller.send({ type: "stop-failed", back: "running" });
  try {
    await resumeAfterSave(host, host.store.getVm(id));
  } catch (error) {
    host.log.child({ vm: id }).event("agent.disconnected", { error });
  }
}

/**
 * Removes a VM whose client's connection ended with the last hearthd, and one that is to be removed once it does not
 * run. A client's VM that is to be kept is stopped.
 * @returns whether it was to be removed
 */
async function removeEphemeral({ host, vms }: Recovering, id: VmId, isEphemeral: boolean): Promise<boolean> {
  const vm = host.store.findVm(id);
  if (vm === undefined) return true;
  const ended = vm.state.phase === "stopped" || vm.state.phase === "failed";
  // A fork that has never run is useless without the others.
  const isHalf = isEphemeral && vm.spec.sourceSnapshot !== undefined && neverRan(vm.state);
  const mustGo = isHalf || (vm.spec.autoRemove && (isEphemeral || ended));
  if (mustGo) await removeOne(host, vms, id);
  else if (isEphemeral) await stopEphemeral(host, vms, id);
  return mustGo;
}

async function removeOne(host: Host, vms: Vms, id: VmId): Promise<void> {
  try {
    await vms.remove(id, true, vms.background());
  } catch (error) {
    host.log.event("clean.left_over", { path: vmPaths(host.dirs, id).stateDir, error });
  }
}

async function stopEphemeral(host: Host, vms: Vms, id: VmId): Promise<void> {
  try {
    await vms.stop(id, { mode: "graceful", timeoutMs: 5_000 }, vms.background());
    host.store.keepVm(id);
  } catch (error) {
    host.log.event("clean.left_over", { path: vmPaths(host.dirs, id).runDir, error });
  }
}
