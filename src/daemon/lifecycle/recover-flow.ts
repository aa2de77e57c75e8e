/**
 * Recovers one flow: one that was under way when hearthd crashed, or that could not be undone, is undone or finished.
 * Its journal is closed only once that is done. Until then a VM without a VMM is `failed` (`vm.unclean`), and its next
 * start, and the next start of hearthd, try again.
 */
import { errorBody } from "#base/error.ts";
import { driverOf } from "#daemon/spec/choose-driver.ts";
import { CREATE_VM } from "#daemon/flows/create-flow.ts";
import { finishFlow, uncleanError, unwindFlow } from "#daemon/flows/flow.ts";
import type { Flow, UndoFailure } from "#daemon/flows/flow.ts";
import { REMOVE_VM } from "#daemon/flows/remove-flow.ts";
import { FINALIZE_SNAPSHOT } from "#daemon/flows/finalize-flow.ts";
import { SET_POLICY } from "#daemon/flows/policy-flow.ts";
import { SNAPSHOT_VM } from "#daemon/flows/snapshot-flow.ts";
import type { SnapshotPlan } from "#daemon/flows/snapshot-flow.ts";
import { START_VM } from "#daemon/flows/start-flow.ts";
import type { StartPlan } from "#daemon/flows/start-flow.ts";
import { STOP_VM } from "#daemon/flows/stop-flow.ts";
import type { AskedAgent, StopPlan } from "#daemon/flows/stop-flow.ts";
import type { Host } from "#daemon/host.ts";
import type { Journal, OpenFlow } from "#daemon/store/journal.ts";
import { hasLayers, stateBefore, failedResume } from "#daemon/vm/retry-resume.ts";
import type { VmControllers } from "#daemon/vm/vm-controllers.ts";
import type { VmDriver } from "#drivers/vm-driver.ts";
import type { VmId } from "#model/ids.ts";
import type { AgentAddress, VmExit, VmHandle } from "#model/vm-handle.ts";
import { handleOf } from "#model/vm-state.ts";

/** The limit for a guest that was being stopped, and may not answer any more. */
const AGENT_MS = 30_000;

/**
 * Recovers each open flow of one VM, and logs those that fail; the others are tried all the same. The caller has the
 * VM's lock.
 */
export async function tryFlowsOf(all: VmControllers, id: string, signal: AbortSignal): Promise<void> {
  for (const flow of openFlowsOf(all.host, id)) {
    try {
      await recoverFlow(all, flow, signal);
    } catch (error) {
      all.host.log.child({ vm: flow.vmId }).event("flow.failed", { flow: flow.kind, vm: flow.vmId, error });
    }
  }
}

/**
 * Recovers the flows of this VM that could not be undone. The caller has the VM's lock.
 * @throws HearthError `vm.unclean` when it fails again
 */
export async function recoverFlowsOf(all: VmControllers, id: VmId, signal: AbortSignal): Promise<void> {
  for (const flow of openFlowsOf(all.host, id)) await recoverFlow(all, flow, signal);
}

function openFlowsOf(host: Host, id: string): OpenFlow[] {
  return host.journals.listOpen().filter(({ vmId }) => vmId === id);
}

async function recoverFlow(all: VmControllers, flow: OpenFlow, signal: AbortSignal): Promise<void> {
  const { host } = all;
  const log = host.log.child({ vm: flow.vmId });
  try {
    const journal = host.journals.reopen(flow);
    const how = await recoverKind(all, flow, journal, signal);
    journal[Symbol.dispose]();
    // It was removed, or never completed.
    if (host.store.findVm(flow.vmId) === undefined) all.removeController(flow.vmId);
    log.event("flow.recovered", { flow: flow.kind, vm: flow.vmId, how });
  } catch (error) {
    if (!signal.aborted) markUnclean(all, flow.vmId, error);
    throw error;
  }
}

/** Stores why a flow of the VM could not be undone. A VM that has a VMM keeps its state, which has the VMM's handle. */
export function markUnclean(all: VmControllers, id: VmId, error: unknown): void {
  const { host } = all;
  const vm = host.store.findVm(id);
  if (vm === undefined || handleOf(vm.state) !== undefined) return;
  const { message } = errorBody(error);
  all.of(id).send({ type: "broke", code: "vm.unclean", message, atMs: host.now() });
  host.store.setError(id, "vm.unclean", error);
}

async function recoverKind(
  all: VmControllers,
  flow: OpenFlow,
  journal: Journal,
  signal: AbortSignal,
): Promise<"unwound" | "finished"> {
  const { host } = all;
  const { vmId: id, steps } = flow;
  const unwind = async <Context extends Left, Left>(
    known: Flow<Context, Left>,
    left: Left,
  ): Promise<"unwound"> => {
    const log = host.log.child({ vm: id });
    throwIfLeft(flow, await unwindFlow(known, left, steps, journal, log));
    return "unwound";
  };
  switch (flow.kind) {
    case "create":
      if (isDone(CREATE_VM.steps, steps)) return "finished";
      return unwind(CREATE_VM, { host, id });
    case "start": {
      if (isDone(START_VM.steps, steps)) return "finished";
      const { diskIsNew } = flow.context as StartPlan;
      await unwind(START_VM, { host, id, diskIsNew });
      restoreState(all, flow);
      return "unwound";
    }
    case "stop":
      await finishStop(all, flow, journal, signal);
      return "finished";
    case "remove":
      await finishFlow(REMOVE_VM, { host, id }, steps, journal);
      return "finished";
    case "snapshot": {
      if (isDone(SNAPSHOT_VM.steps, steps)) return "finished";
      const { snapshotId } = flow.context as SnapshotPlan;
      return unwind(SNAPSHOT_VM, { host, id, snapshotId });
    }
    case "finalize":
      return unwind(FINALIZE_SNAPSHOT, { host, id });
    case "policy":
      return unwind(SET_POLICY, { host, id });
  }
}

function throwIfLeft(flow: OpenFlow, left: readonly UndoFailure[]): void {
  if (left.length > 0) throw uncleanError(flow.kind, left, left[0]?.error);
}

/** Looks at the last step only: steps run in order, and an older hearthd's flow may have had fewer of them. */
function isDone(steps: readonly { name: string }[], events: OpenFlow["steps"]): boolean {
  const last = steps.at(-1);
  return last !== undefined && events.get(last.name) === "done";
}

/** Stores the VM's state before the start that was undone, and the snapshot that it is to begin with. */
function restoreState(all: VmControllers, flow: OpenFlow): void {
  const { host } = all;
  const vm = host.store.findVm(flow.vmId);
  if (vm === undefined) return;
  const { back, sourceSnapshot, fresh } = flow.context as StartPlan;
  // Only this journal says whether the guest of a suspended VM may have run.
  const mayHaveRun = flow.steps.has("boot") && !hasLayers(host, vm.id);
  const state =
    back.phase === "suspended" && mayHaveRun
      ? failedResume(host.now())
      : stateBefore(host, vm.id, back, fresh);
  all.of(vm.id).send({ type: "start-undone", back: state }, () => {
    if (sourceSnapshot !== undefined) host.store.setSpec(vm.id, { ...vm.spec, sourceSnapshot });
  });
}

async function finishStop(
  all: VmControllers,
  flow: OpenFlow,
  journal: Journal,
  signal: AbortSignal,
): Promise<void> {
  const { host } = all;
  const vm = host.store.findVm(flow.vmId);
  if (vm === undefined) return;
  const handle = handleOf(vm.state);
  // Its VMM has ended, and what it left could not be removed the last time.
  const isUnclean = vm.state.phase === "failed" && vm.state.code === "vm.unclean";
  if (handle === undefined && !isUnclean) return;
  const plan = flow.context as StopPlan;
  const driver = handle && driverOf(host, handle.driver);
  using watching = new Watching(driver, handle);
  const context = {
    host,
    id: vm.id,
    plan,
    vmm: driver && handle && { driver, handle },
    agent: handle && (await connectForStop(host, handle, flow, signal)),
    signal,
    ended: watching.ended,
    commit: (exit: VmExit) =>
      all
        .of(vm.id)
        .send({ type: "stop-finished", exit, suspendedTo: plan.suspendedTo }, () =>
          host.journals.end("stop", vm.id),
        ),
  };
  await finishFlow(STOP_VM, context, flow.steps, journal);
}

/** Watches the VMM for as long as the stop takes. */
class Watching implements Disposable {
  readonly ended: Promise<VmExit>;
  readonly #over = new AbortController();

  constructor(driver: VmDriver | undefined, handle: VmHandle | undefined) {
    this.ended = new Promise((resolve) => {
      if (handle !== undefined) driver?.watch(handle, { exited: resolve, silent() {} }, this.#over.signal);
    });
  }

  [Symbol.dispose](): void {
    this.#over.abort();
  }
}

/** Connects to the guest that the stop is to ask, unless it was asked, and has answered, before the crash. */
async function connectForStop(
  host: Host,
  address: AgentAddress,
  flow: OpenFlow,
  signal: AbortSignal,
): Promise<AskedAgent | undefined> {
  const plan = flow.context as StopPlan;
  if (plan.mode !== "graceful" || flow.steps.get("ask the guest") === "done") return undefined;
  const deadlineMs = Math.min(plan.timeoutMs, AGENT_MS);
  try {
    const guest = await host.guests.waitFor(address, deadlineMs, signal);
    return { ask: (call, inTime) => call(guest, inTime), close: () => guest.close() };
  } catch (error) {
    signal.throwIfAborted();
    // It is powering off already, or has ended: the flow's next step finds out.
    host.log.child({ vm: flow.vmId }).event("agent.disconnected", { error });
    return undefined;
  }
}
