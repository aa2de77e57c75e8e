import { deleteSuspendedMemory } from "#daemon/snapshot/delete-snapshot.ts";
import type { VmController } from "#daemon/vm/vm-controller.ts";

/**
 * Drops what a suspended VM had in memory: it is stopped then. `alongside` writes to the store in the same transaction,
 * also for a VM that was not suspended. To be called alone on the VM.
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
