/**
 * What hearthd does before it listens: it makes the host be as the journal says. Flows that were under way
 * are taken back or finished, VMMs that still run are adopted, and what belongs to nobody is taken away.
 */
import { join } from "node:path";
import { invariant } from "#base/error.ts";
import { driverOf } from "#daemon/choose-driver.ts";
import { liftWalls } from "#daemon/confinement.ts";
import { letSleeplessGoOn } from "#daemon/drop-snapshot.ts";
import { CREATE_VM } from "#daemon/flows/create-vm.ts";
import { finishFlow, unwindFlow } from "#daemon/flows/flow.ts";
import { REMOVE_VM } from "#daemon/flows/remove-vm.ts";
import { SETTLE_SNAPSHOT } from "#daemon/flows/settle-snapshot.ts";
import { SNAPSHOT_VM } from "#daemon/flows/snapshot-vm.ts";
import type { SnapshotPlan } from "#daemon/flows/snapshot-vm.ts";
import { endVmm, START_VM } from "#daemon/flows/start-vm.ts";
import type { StartPlan } from "#daemon/flows/start-vm.ts";
import { STOP_VM } from "#daemon/flows/stop-vm.ts";
import type { StopPlan } from "#daemon/flows/stop-vm.ts";
import { letGoOn } from "#daemon/hold-vm.ts";
import type { Host } from "#daemon/host.ts";
import type { Journal, OpenFlow } from "#daemon/journal.ts";
import { hasLayers, wokenHalf } from "#daemon/wake-vm.ts";
import { vmPaths, vmRunsDir, vmsDir } from "#daemon/vm-paths.ts";
import type { Vms } from "#daemon/vms.ts";
import type { VmDriver } from "#drivers/vm-driver.ts";
import { parseVmId } from "#model/ids.ts";
import type { AgentAddress, VmExit, VmHandle } from "#model/vm-handle.ts";
import type { VmId } from "#model/ids.ts";
import { handleOf } from "#model/vm-state.ts";
import type { VmState } from "#model/vm-state.ts";
import type { VmRecord } from "#model/vm.ts";

/** One VM that cannot be put right is logged, and does not hold up the others. */
export async function recover(host: Host, vms: Vms): Promise<void> {
  for (const flow of host.journals.listOpen()) await recoverFlow(host, flow);
  await letSleeplessGoOn(host);
  await adoptVmms(host, vms);
  await removeBound(host, vms);
  await sweep(host);
}

async function recoverFlow(host: Host, flow: OpenFlow): Promise<void> {
  const log = host.log.child({ vm: flow.vmId });
  try {
    using journal = host.journals.reopen(flow);
    const how = await settle(host, flow, journal);
    log.event("flow.recovered", { flow: flow.kind, vm: flow.vmId, how });
  } catch (error) {
    // The VM's own row tells what is known; the sweep takes what is left. One VM must not hold up the others.
    log.event("flow.failed", { flow: flow.kind, vm: flow.vmId, error });
  }
}

async function settle(host: Host, flow: OpenFlow, journal: Journal): Promise<"unwound" | "finished"> {
  const { vmId: id, steps } = flow;
  switch (flow.kind) {
    case "create":
      if (isDone(CREATE_VM.steps, steps)) return "finished";
      await unwindFlow(CREATE_VM, { host, id, signal: new AbortController().signal }, steps, journal);
      return "unwound";
    case "start": {
      if (isDone(START_VM.steps, steps)) return "finished";
      const { diskIsNew } = flow.context as StartPlan;
      try {
        await unwindFlow(START_VM, { host, id, diskIsNew }, steps, journal);
      } finally {
        restoreState(host, flow); // Only this journal knows whether a guest that slept may have run.
      }
      return "unwound";
    }
    case "stop":
      await finishStop(host, flow, journal);
      return "finished";
    case "remove":
      await finishFlow(REMOVE_VM, { host, id }, steps, journal);
      return "finished";
    case "snapshot": {
      if (isDone(SNAPSHOT_VM.steps, steps)) return "finished";
      const { snapshotId } = flow.context as SnapshotPlan;
      await unwindFlow(SNAPSHOT_VM, { host, id, snapshotId }, steps, journal);
      return "unwound";
    }
    case "settle":
      await unwindFlow(SETTLE_SNAPSHOT, { host, id }, steps, journal);
      return "unwound";
  }
}

function isDone(steps: readonly { name: string }[], events: OpenFlow["steps"]): boolean {
  return steps.every((step) => events.get(step.name) === "done");
}

/** Where the VM was before the start that is now taken back. */
function restoreState(host: Host, flow: OpenFlow): void {
  const vm = host.store.findVm(flow.vmId);
  if (vm === undefined) return;
  const { back, origin } = flow.context as StartPlan;
  if (origin !== undefined) host.store.setSpec(vm.id, { ...vm.spec, origin });
  const mayHaveRun = flow.steps.has("boot") && !hasLayers(host, vm.id);
  if (back.phase === "suspended" && mayHaveRun) host.store.setState(vm.id, wokenHalf(host.now()));
  else host.store.setState(vm.id, back);
}

async function finishStop(host: Host, flow: OpenFlow, journal: Journal): Promise<void> {
  const vm = host.store.findVm(flow.vmId);
  const handle = vm === undefined ? undefined : handleOf(vm.state);
  if (vm === undefined || handle === undefined) return;
  const driver = driverOf(host, handle.driver);
  using watching = new Watching(driver, handle);
  const context = {
    host,
    id: vm.id,
    plan: flow.context as StopPlan,
    driver,
    handle,
    guest: await connectForStop(host, handle, flow),
    ended: watching.ended,
    commit: (exit: VmExit) => host.store.setState(vm.id, afterStop(flow.context as StopPlan, exit)),
  };
  await finishFlow(STOP_VM, context, flow.steps, journal);
}

function afterStop({ suspendedTo }: StopPlan, exit: VmExit): VmState {
  if (suspendedTo === undefined) return { phase: "stopped", exit };
  return { phase: "suspended", snapshot: suspendedTo, sinceMs: exit.atMs };
}

/** A watch for as long as the stop takes. */
class Watching implements Disposable {
  readonly ended: Promise<VmExit>;
  readonly #over = new AbortController();

  constructor(driver: VmDriver, handle: VmHandle) {
    this.ended = new Promise((resolve) =>
      driver.watch(handle, { exited: resolve, silent() {} }, this.#over.signal),
    );
  }

  [Symbol.dispose](): void {
    this.#over.abort();
  }
}

/** A guest that was not asked yet, or may not have flushed, is asked (again); one that is gone is not. */
async function connectForStop(host: Host, address: AgentAddress, flow: OpenFlow) {
  const plan = flow.context as StopPlan;
  if (plan.mode !== "graceful" || flow.steps.get("ask the guest") === "done") return undefined;
  try {
    return await host.guests.waitFor(address, plan.timeoutMs, new AbortController().signal);
  } catch {
    return undefined; // It is powering off already, or is gone: the flow's next step sees to that.
  }
}

async function adoptVmms(host: Host, vms: Vms): Promise<void> {
  for (const vm of host.store.listVms()) {
    const handle = handleOf(vm.state);
    if (handle === undefined) {
      // A start that was not journalled yet, or whose journal was lost in a power cut.
      if (vm.state.phase === "starting") host.store.setState(vm.id, vm.state.back ?? unseen(host));
      continue;
    }
    const log = host.log.child({ vm: vm.id });
    if (await driverOf(host, handle.driver).recover(handle)) {
      if (vm.state.phase === "stopping") await takeBackStop(host, vm);
      vms.adopt(host.store.getVm(vm.id), handle);
      log.event("vm.adopted", { pid: handle.process.pid });
    } else {
      vms.lost(vm);
      log.event("vm.lost", { pid: handle.process.pid });
    }
  }
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
  for (const vm of host.store.listBound()) {
    // A fork that has never run is nothing without the others.
    if (vm.spec.autoRemove || vm.spec.origin !== undefined) await removeOne(host, vms, vm);
    else await stopBound(host, vms, vm);
  }
  for (const vm of host.store.listVms()) {
    const ended = vm.state.phase === "stopped" || vm.state.phase === "failed";
    if (vm.spec.autoRemove && ended) await removeOne(host, vms, vm);
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

/** Folders and VMMs that no row knows of. */
async function sweep(host: Host): Promise<void> {
  const rows = new Map(host.store.listVms().map((vm) => [vm.id as string, vm]));
  for (const id of host.helper.listConfined()) {
    const vm = rows.get(id);
    if (vm === undefined || handleOf(vm.state) === undefined) await liftOrphan(host, id);
  }
  for (const name of await host.files.listFolders(vmRunsDir(host.folders))) {
    const vm = rows.get(name);
    if (vm !== undefined && handleOf(vm.state) !== undefined) continue;
    await removeOrphan(host, vmRunsDir(host.folders), name);
  }
  for (const name of await host.files.listFolders(vmsDir(host.folders))) {
    if (!rows.has(name)) await removeOrphan(host, vmsDir(host.folders), name);
  }
}

async function liftOrphan(host: Host, id: VmId): Promise<void> {
  try {
    await endVmm(host, id);
    await liftWalls(host, id);
  } catch (error) {
    host.log.event("clean.left_over", { path: vmPaths(host.folders, id).stateDir, error });
  }
}

async function removeOrphan(host: Host, root: string, name: string): Promise<void> {
  const path = join(root, name);
  try {
    await endVmm(host, parseVmId(name));
    await host.files.removeTree(root, path);
  } catch (error) {
    // Something that is not ours lies in our folder, or cannot be deleted: said, and left alone.
    host.log.event("clean.left_over", { path, error });
  }
}
