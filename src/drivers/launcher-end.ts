import { EXIT_CODE_DEADLINE_MS } from "#drivers/starting-vmm.ts";
import { waitForEnd } from "#host/process-end.ts";
import type { VmHandle } from "#model/vm-handle.ts";

/** Waits for the launcher, which ends a moment after its VMM. One that does not is reported: the VMM has ended. */
export async function waitForLauncher(
  launcher: VmHandle["launcher"],
  onTrouble: (path: string, error: unknown) => void,
): Promise<void> {
  if (launcher === undefined) return;
  if (await waitForEnd(launcher, EXIT_CODE_DEADLINE_MS, new AbortController().signal)) return;
  onTrouble(`process ${launcher.pid}`, new Error("The VMM's launcher did not end with it."));
}
