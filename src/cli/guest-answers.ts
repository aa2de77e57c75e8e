import { HearthError } from "#base/error.ts";
import type { HearthVm } from "#sdk/hearth-vm.ts";

/** What is asked of the VM here. */
export type AskedVm = Pick<HearthVm, "show" | "readTar">;

/** In these nothing of a guest goes on until somebody resumes it. */
const HALTED: ReadonlySet<string> = new Set(["paused", "suspended"]);

/**
 * Whether a command in this VM may be waited for: its guest answers, or the VM is ending or gone, and then hearthd, which
 * tells of the command's end when it is done with its VM.
 */
export async function guestAnswers(vm: AskedVm, signal: AbortSignal): Promise<boolean> {
  try {
    // Asked first, because reading a file would resume a VM that was suspended meanwhile.
    const phase = await phaseOf(vm, signal);
    if (phase !== "running") return !HALTED.has(phase);
    if (await readsFile(vm, signal)) return true;
    // It may have begun to end just now.
    const now = await phaseOf(vm, signal);
    return now !== "running" && !HALTED.has(now);
  } catch {
    return false; // hearthd does not answer.
  }
}

/** Reading a file is the smallest question that only the guest can answer; that it has none is an answer, too. */
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
