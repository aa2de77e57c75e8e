/** Removes VMs for good. The caller has the VM's lock. */
import { errorBody } from "#base/error.ts";
import { REMOVE_VM } from "#daemon/flows/remove-flow.ts";
import { runJournaled } from "#daemon/flows/run-journaled.ts";
import { SHUTDOWN_GRACE_MS, stopVm } from "#daemon/vm/stop-vm.ts";
import type { VmController } from "#daemon/vm/vm-controller.ts";
import type { Call } from "#daemon/vm/vms.ts";
import { handleOf } from "#model/vm-state.ts";
import type { VmRecord } from "#model/vm.ts";

/**
 * Removes a VM with its disk. If something cannot be removed, the VM is `failed` (`vm.unclean`), and the next removal
 * continues.
 */
export async function removeVm(controller: VmController, vm: VmRecord, call: Call): Promise<void> {
  const { host, id } = controller;
  controller.closeSession();
  try {
    await runJournaled(host, REMOVE_VM, id, {}, { host, id }, call);
  } catch (error) {
    const message = `The removal of ${vm.name} did not finish: ${errorBody(error).message}`;
    const failure = { code: "vm.unclean", message } as const;
    const atMs = host.now();
    if (handleOf(controller.state) === undefined) controller.send({ type: "broke", ...failure, atMs });
    else controller.send({ type: "vmm-exited", exit: { reason: "unseen", atMs }, failure });
    throw error;
  }
}

/**
 * Stops a VM that may have written to its volumes, which have to be flushed for the next VM. Its disk is removed
 * anyway.
 */
export async function closeVolumes(controller: VmController, vm: VmRecord, call: Call): Promise<void> {
  const { host, state, attachment } = controller;
  if (state.phase !== "running" && state.phase !== "paused") return;
  try {
    // After a restart, hearthd may not be connected to the agent yet.
    if (state.phase === "running") await attachment?.guest(AbortSignal.timeout(SHUTDOWN_GRACE_MS));
  } catch (error) {
    host.log.child({ vm: vm.id }).event("agent.disconnected", { error });
  }
  await stopVm(controller, vm, { mode: "graceful", timeoutMs: SHUTDOWN_GRACE_MS }, call);
}
