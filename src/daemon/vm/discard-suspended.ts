import { deleteSuspendedMemory } from "#daemon/snapshot/delete-snapshot.ts";
import type { VmController } from "#daemon/vm/vm-controller.ts";

/**
 * Deletes the memory of a suspended VM, which is stopped then. `alongside` writes to the store in the same transaction,
 * also for a VM that was not suspended. The caller has the VM's lock.
 */
export async function discardSuspended(
  controller: VmController,
  alongside: () => void = () => {},
): Promise<void> {
  const { host, id, state } = controller;
  if (state.phase !== "suspended") return alongside();
  controller.send({ type: "discarded", exit: { reason: "asked", atMs: host.now() } }, alongside);
  await deleteSuspendedMemory(host, id);
}
