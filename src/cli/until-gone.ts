import { setTimeout as sleep } from "node:timers/promises";
import { HearthError } from "#base/error.ts";

const WAIT_MS = 30_000;
const LOOK_EVERY_MS = 20;

/** Resolves when no process has this pid any more. @throws HearthError `operation.timed_out`. */
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
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
