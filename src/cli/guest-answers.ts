import { setTimeout as sleep } from "node:timers/promises";
import { HearthError } from "#base/error.ts";
import type { HearthVm } from "#sdk/hearth-vm.ts";

/** The part of a VM that is used here. */
export type AskedVm = Pick<HearthVm, "show" | "readTar">;

/** The phases in which the vCPUs are stopped until a resume. */
const NOT_RUNNING: ReadonlySet<string> = new Set(["paused", "suspended"]);

/** The pause before another question to a guest that could not be asked. */
const AGAIN_MS = 200;

/**
 * Tells whether to keep waiting for a command in this VM: its guest answers, or the VM is ending or gone, and then
 * hearthd reports the command's end when it is done with the VM. A guest that cannot be asked is asked again until
 * `signal` aborts: a VM that is being deleted is shown as running even after its agent has gone.
 */
export async function guestAnswers(vm: AskedVm, signal: AbortSignal): Promise<boolean> {
  try {
    for (;;) {
      // Asked first, because reading a file would resume a VM that was suspended meanwhile.
      const phase = await phaseOf(vm, signal);
      if (phase !== "running") return !NOT_RUNNING.has(phase);
      if (await readsFile(vm, signal)) return true;
      await sleep(AGAIN_MS, undefined, { signal });
    }
  } catch {
    return false; // hearthd does not answer, or the time is over.
  }
}

/**
 * Tells whether the guest can read a file, which is the smallest question that only the guest can answer. A missing
 * file is an answer, too.
 */
async function readsFile(vm: AskedVm, signal: AbortSignal): Promise<boolean> {
  try {
    (await vm.readTar("/proc/version", signal)).on("error", () => undefined).destroy();
    return true;
  } catch (error) {
    return error instanceof HearthError && error.code.startsWith("file.");
  }
}

async function phaseOf(vm: AskedVm, signal: AbortSignal): Promise<string> {
  try {
    return (await vm.show(signal)).phase;
  } catch (error) {
    if (error instanceof HearthError && error.code === "vm.not_found") return "gone";
    throw error;
  }
}
