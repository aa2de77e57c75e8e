import { failAfter } from "#base/clean-up.ts";
import { errorBody } from "#base/error.ts";
import { driverOf } from "#daemon/spec/choose-driver.ts";
import { runJournaled } from "#daemon/flows/run-journaled.ts";
import { STOP_VM } from "#daemon/flows/stop-flow.ts";
import type { StopContext, StopPlan } from "#daemon/flows/stop-flow.ts";
import type { VmController } from "#daemon/vm/vm-controller.ts";
import type { Call } from "#daemon/vm/vms.ts";
import type { Host } from "#daemon/host.ts";
import type { VmDriver } from "#drivers/vm-driver.ts";
import type { VmExit, VmHandle } from "#model/vm-handle.ts";
import { handleOf } from "#model/vm-state.ts";
import type { VmRecord } from "#model/vm.ts";

/** The time for a guest to flush its disks when its lifetime is over, or when it is removed with volumes mounted. */
export const SHUTDOWN_GRACE_MS = 10_000;

/**
 * Stops a VM. The caller has its lock. A VM that ended meanwhile is left as it is. If the stop fails, the VM is as it
 * was before, or `failed` (`vm.unclean`) if its VMM has ended and something of it is left.
 */
export async function stopVm(
  controller: VmController,
  vm: VmRecord,
  plan: StopPlan,
  call: Call,
): Promise<void> {
  const { host, attachment } = controller;
  const handle = handleOf(controller.state);
  const noteDesired = (): void => {
    if (plan.suspendedTo === undefined) host.store.setDesired(vm.id, "stopped");
  };
  if (handle === undefined) return noteDesired(); // It ended while the request was on its way.
  const before = controller.state.phase;
  controller.send({ type: "stop-asked" }, noteDesired);
  const driver = driverOf(host, handle.driver);
  const { suspendedTo } = plan;
  const context: StopContext = {
    host,
    id: vm.id,
    plan,
    vmm: { driver, handle },
    agent: attachment && {
      ask: attachment.ask.bind(attachment),
      close: () => attachment.connectedGuest?.close(),
    },
    ended: attachment?.ended ?? new Promise<VmExit>(() => {}),
    signal: call.signal,
    commit: (exit: VmExit) => {
      controller.closeSession();
      // Also ends the journal of an earlier stop that failed.
      const end = (): void => host.journals.end("stop", vm.id);
      controller.send({ type: "stop-finished", exit, suspendedTo }, end);
    },
  };
  let isPaused = before === "paused";
  try {
    if (isPaused && plan.mode === "graceful")
      isPaused = !(await resumeForEnd(host, vm, driver, handle, call.signal));
    await runJournaled(host, STOP_VM, vm.id, plan, context, call);
  } catch (error) {
    await failAfter(error, () => afterFailure(controller, context, isPaused ? "paused" : "running", error));
  }
  if (suspendedTo === undefined) controller.afterEnd();
}

/**
 * Resumes a paused guest so that it can flush its disks. A VM that cannot be resumed is ended all the same.
 * @returns whether it runs
 */
async function resumeForEnd(
  host: Host,
  { id }: VmRecord,
  driver: VmDriver,
  handle: VmHandle,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    await driver.resume(handle, signal);
    return true;
  } catch (error) {
    signal.throwIfAborted();
    host.log.child({ vm: id }).event("agent.disconnected", { error });
    return false;
  }
}

async function afterFailure(
  controller: VmController,
  { host, id, vmm, exit }: StopContext,
  back: "running" | "paused",
  error: unknown,
): Promise<void> {
  if (controller.state.phase !== "stopping") return;
  const failed = (cause: unknown): void => {
    controller.closeSession();
    // The journal stays open: the next start, or the next hearthd, finishes the stop.
    const message = `Its stop did not finish: ${errorBody(cause).message}`;
    const seen = exit ?? { reason: "unseen", atMs: host.now() };
    controller.send({ type: "vmm-exited", exit: seen, failure: { code: "vm.unclean", message } });
  };
  try {
    if (vmm === undefined || !(await vmm.driver.recover(vmm.handle))) return failed(error);
  } catch (unknown) {
    return failed(new AggregateError([error, unknown], "Its VMM may still be running"));
  }
  // Ends the journal, so that the next hearthd does not finish a stop that no client waits for.
  controller.send({ type: "stop-failed", back }, () => host.journals.end("stop", id));
}
