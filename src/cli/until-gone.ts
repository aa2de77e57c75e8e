import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { HearthError } from "#base/error.ts";

const WAIT_MS = 30_000;
const LOOK_EVERY_MS = 20;

/**
 * Resolves when no process with this pid runs. A zombie does not run: the init of a container may take a second to reap
 * it.
 * @throws HearthError `operation.timed_out`.
 */
export async function untilGone(pid: number): Promise<void> {
  const deadlineMs = performance.now() + WAIT_MS;
  while (lives(pid)) {
    if (performance.now() > deadlineMs) {
      throw new HearthError(
        "operation.timed_out",
        `hearthd (pid ${pid}) has not ended in ${WAIT_MS / 1000} s.`,
        {
          hint: "Look at `hearth daemon logs`.",
        },
      );
    }
    await sleep(LOOK_EVERY_MS);
  }
}

function lives(pid: number): boolean {
  try {
    // The state follows the name, which may have spaces and parentheses in it: proc_pid_stat(5).
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return !/^ [ZX]/.test(stat.slice(stat.lastIndexOf(")") + 1));
  } catch (error) {
    if (isGone(error)) return false;
    throw error;
  }
}

/** ESRCH if the process ended between the open and the read. */
function isGone(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === "ENOENT" || code === "ESRCH";
}
