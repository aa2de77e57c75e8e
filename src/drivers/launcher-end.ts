/** Ends what belongs to a VMM: the program that launched it, and its helper processes. */
import { EXIT_CODE_DEADLINE_MS } from "#drivers/starting-vmm.ts";
import type { EndVmm } from "#drivers/end-vmm.ts";
import { waitForEnd } from "#host/process-end.ts";
import type { VmHandle } from "#model/vm-handle.ts";

type OnTrouble = (path: string, error: unknown) => void;

const { signal: never } = new AbortController();

/** Waits for the launcher, which ends a moment after its VMM. Reports a launcher that does not. */
export async function waitForLauncher(launcher: VmHandle["launcher"], onTrouble: OnTrouble): Promise<void> {
  if (launcher === undefined) return;
  if (await waitForEnd(launcher, EXIT_CODE_DEADLINE_MS, never)) return;
  onTrouble(`process ${launcher.pid}`, new Error("The launcher of the VMM did not end with it."));
}

/** Ends the helper processes of a VMM that has ended. Reports one that does not end. Idempotent. */
export async function endHelpers(
  { processes, stateDir }: VmHandle,
  end: EndVmm,
  onTrouble: OnTrouble,
): Promise<void> {
  const [, ...helpers] = processes;
  for (const helper of helpers) {
    try {
      await end(stateDir, helper, 0, never);
    } catch (error) {
      onTrouble(`process ${helper.pid}`, error);
    }
  }
}
