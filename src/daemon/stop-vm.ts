import { driverOf } from "#daemon/choose-driver.ts";
import { runJournaled } from "#daemon/flows/run-journaled.ts";
import { STOP_VM } from "#daemon/flows/stop-vm.ts";
import type { StopPlan } from "#daemon/flows/stop-vm.ts";
import type { StartParts } from "#daemon/start-vm.ts";
import type { Call } from "#daemon/vms.ts";
import type { VmExit } from "#model/vm-handle.ts";
import { handleOf } from "#model/vm-state.ts";
import type { VmRecord } from "#model/vm.ts";

/** To be called alone on its VM. One that went down meanwhile is left as it is. */
export async function stopVm(parts: StartParts, vm: VmRecord, plan: StopPlan, call: Call): Promise<void> {
  const { host, running, loop } = parts;
  const handle = handleOf(loop.state);
  if (handle === undefined) return; // It went down while the request was on its way.
  const attachment = running.find(vm.id);
  loop.send({ type: "stop-asked" });
  const driver = driverOf(host, handle.driver);
  // A paused guest cannot flush; it goes on for the time of its end.
  if (vm.state.phase === "paused" && plan.mode === "graceful") await driver.resume(handle, call.signal);
  const { suspendedTo } = plan;
  const context = {
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
  await runJournaled(host, STOP_VM, vm.id, plan, context, call);
  if (suspendedTo === undefined) running.afterEnd(vm.id);
}
