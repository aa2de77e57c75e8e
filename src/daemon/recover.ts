/**
 * What hearthd does before it listens: it makes the host be as the store says.
 *
 *   1. Flows that were under way are undone or finished, as their journals say (`recover-flow.ts`).
 *   2. VMs that were being suspended are resumed.
 *   3. VMMs that still run are adopted; a VM whose VMM is gone is stopped.
 *   4. VMs of clients that went away with the last hearthd are removed.
 *   5. What no row knows of is moved to `lost+found` (`sweep.ts`).
 *
 * A store that is older than what lies beside it, such as one from a backup, removes nothing (`older-store.ts`). One VM
 * that cannot be recovered is shown as failed, and holds up neither the others nor hearthd.
 */
import { errorBody, invariant } from "#base/error.ts";
import { driverOf } from "#daemon/choose-driver.ts";
import { letSleeplessGoOn, sweepSnapshots } from "#daemon/drop-snapshot.ts";
import { letGoOn } from "#daemon/hold-vm.ts";
import type { Host } from "#daemon/host.ts";
import { acceptOlderStore } from "#daemon/older-store.ts";
import { recoverFlows } from "#daemon/recover-flow.ts";
import { sweepVms } from "#daemon/sweep.ts";
import { vmPaths } from "#daemon/vm-paths.ts";
import type { Vms } from "#daemon/vms.ts";
import type { VmId } from "#model/ids.ts";
import { handleOf, neverRan } from "#model/vm-state.ts";
import type { VmState } from "#model/vm-state.ts";
import type { VmRecord } from "#model/vm.ts";

/** To be called before anything else is done to VMs. */
export async function recover(host: Host, vms: Vms): Promise<void> {
  if (host.store.isOlder) await acceptOlderStore(host);
  else await recoverFlows(host);
  const halted = await letSleeplessGoOn(host);
  const failed = await adoptVmms(host, vms);
  await removeBound(host, vms);
  await sweepVms(host, failed);
  await sweepSnapshots(host, halted);
  host.store.acceptAge();
}

/** @returns the VMs whose VMM could not be looked at, and may still run */
async function adoptVmms(host: Host, vms: Vms): Promise<ReadonlySet<VmId>> {
  const failed = new Set<VmId>();
  for (const vm of host.store.listVms()) {
    try {
      await adoptVmm(host, vms, vm);
    } catch (error) {
      failed.add(vm.id);
      host.log.child({ vm: vm.id }).event("vm.not_recovered", { error });
      vms.lost(vm, { code: "vm.unclean", message: errorBody(error).message });
    }
  }
  return failed;
}

async function adoptVmm(host: Host, vms: Vms, vm: VmRecord): Promise<void> {
  const handle = handleOf(vm.state);
  if (handle === undefined) {
    // A start that was not journalled yet, or whose journal was lost in a power cut.
    if (vm.state.phase === "starting") host.store.setState(vm.id, vm.state.back ?? unseen(host));
    return;
  }
  const log = host.log.child({ vm: vm.id });
  const stop = host.journals.listOpen().find(({ kind, vmId }) => kind === "stop" && vmId === vm.id);
  if (await driverOf(host, handle.driver).recover(handle)) {
    if (vm.state.phase === "stopping") await takeBackStop(host, vm);
    host.journals.end("stop", vm.id);
    vms.adopt(host.store.getVm(vm.id), handle);
    log.event("vm.adopted", { pid: handle.process.pid });
    return;
  }
  // Only the journal knows where its memory is, if it was being suspended.
  const message = "Its VMM is gone, and what it has left could not be removed.";
  vms.lost(vm, stop && { code: "vm.unclean", message });
  log.event("vm.lost", { pid: handle.process.pid });
}

/** Never `created`: the disk of such a VM is replaced by a template's. */
function unseen(host: Host): VmState {
  return { phase: "stopped", exit: { reason: "unseen", atMs: host.now() } };
}

/** One that was not journalled, so that nothing has happened; the VMM was halted when it was to sleep. */
async function takeBackStop(host: Host, vm: VmRecord): Promise<void> {
  invariant(vm.state.phase === "stopping", "the stop of a VM that stops");
  host.store.setState(vm.id, { ...vm.state, phase: "running" });
  try {
    await letGoOn(host, host.store.getVm(vm.id));
  } catch (error) {
    host.log.child({ vm: vm.id }).event("agent.disconnected", { error });
  }
}

/** VMs of clients that went away with the last hearthd, and those that were to go when they do not run. */
async function removeBound(host: Host, vms: Vms): Promise<void> {
  const bound = host.store.listBound();
  for (const vm of bound) {
    // A fork that has never run is nothing without the others.
    const isHalf = vm.spec.origin !== undefined && neverRan(vm.state);
    if (vm.spec.autoRemove || isHalf) await removeOne(host, vms, vm);
    else await stopBound(host, vms, vm);
  }
  for (const vm of host.store.listVms()) {
    const ended = vm.state.phase === "stopped" || vm.state.phase === "failed";
    const isNew = bound.every(({ id }) => id !== vm.id);
    if (vm.spec.autoRemove && ended && isNew) await removeOne(host, vms, vm);
  }
}

async function removeOne(host: Host, vms: Vms, { id }: VmRecord): Promise<void> {
  try {
    await vms.remove(id, true, vms.background());
  } catch (error) {
    host.log.event("clean.left_over", { path: vmPaths(host.folders, id).stateDir, error });
  }
}

async function stopBound(host: Host, vms: Vms, { id }: VmRecord): Promise<void> {
  try {
    await vms.stop(id, { mode: "graceful", timeoutMs: 5_000 }, vms.background());
    host.store.unbind(id);
  } catch (error) {
    host.log.event("clean.left_over", { path: vmPaths(host.folders, id).runDir, error });
  }
}
