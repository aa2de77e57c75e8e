import { errorBody } from "#base/error.ts";
import { driverOf } from "#daemon/spec/choose-driver.ts";
import { runJournaled } from "#daemon/flows/run-journaled.ts";
import { STOP_VM } from "#daemon/flows/stop-flow.ts";
import type { StopContext, StopPlan } from "#daemon/flows/stop-flow.ts";
import type { StartParts } from "#daemon/vm/start-vm.ts";
import type { Call } from "#daemon/vm/vms.ts";
import type { Host } from "#daemon/host.ts";
import type { VmDriver } from "#drivers/vm-driver.ts";
import type { VmExit, VmHandle } from "#model/vm-handle.ts";
import { handleOf } from "#model/vm-state.ts";
import type { VmRecord } from "#model/vm.ts";

/**
 * To be called alone on its VM. One that went down meanwhile is left as it is. When the stop fails the VM runs on as it
 * did, or is `failed` (`vm.unclean`) where its VMM has ended and something of it is left.
 */
export async function stopVm(parts: StartParts, vm: VmRecord, plan: StopPlan, call: Call): Promise<void> {
  const { host, running, loop } = parts;
  const handle = handleOf(loop.state);
  if (handle === undefined) return; // It went down while the request was on its way.
  const attachment = running.find(vm.id);
  const before = loop.state.phase;
  loop.send({ type: "stop-asked" });
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
      running.drop(vm.id);
      // Also of an earlier stop that had failed.
      const end = (): void => host.journals.end("stop", vm.id);
      if (suspendedTo === undefined) loop.send({ type: "vmm-exited", exit }, end);
      else loop.send({ type: "suspended", snapshot: suspendedTo, atMs: host.now() }, end);
    },
  };
  try {
    if (before === "paused" && plan.mode === "graceful")
      await resumeForEnd(host, vm, driver, handle, call.signal);
    await runJournaled(host, STOP_VM, vm.id, plan, context, call);
  } catch (error) {
    await afterFailure(parts, context, before === "paused" ? "paused" : "running", error);
    throw error;
  }
  if (suspendedTo === undefined) running.afterEnd(vm.id);
}

/** A paused guest cannot flush, so it runs for the time of its end. One that cannot be resumed is ended all the same. */
async function resumeForEnd(
  host: Host,
  { id }: VmRecord,
  driver: VmDriver,
  handle: VmHandle,
  signal: AbortSignal,
): Promise<void> {
  try {
    await driver.resume(handle, signal);
  } catch (error) {
    signal.throwIfAborted();
    host.log.child({ vm: id }).event("agent.disconnected", { error });
  }
}

async function afterFailure(
  { host, running, loop }: StartParts,
  { id, vmm, exit }: StopContext,
  back: "running" | "paused",
  error: unknown,
): Promise<void> {
  if (loop.state.phase !== "stopping") return;
  const failed = (cause: unknown): void => {
    running.drop(id);
    // The journal stays open: the next start, and the next hearthd, finish what is left.
    const message = `Its stop did not finish: ${errorBody(cause).message}`;
    const seen = exit ?? { reason: "unseen", atMs: host.now() };
    loop.send({ type: "vmm-exited", exit: seen, failure: { code: "vm.unclean", message } });
  };
  try {
    if (vmm === undefined || !(await vmm.driver.recover(vmm.handle))) return failed(error);
  } catch (unknown) {
    return failed(new AggregateError([error, unknown], "Nobody knows whether its VMM still runs"));
  }
  // Nobody waits for its end any more, and the next hearthd must not end it, either.
  loop.send({ type: "stop-failed", back }, () => host.journals.end("stop", id));
}
