/** Ends processes that are not hearthd's children, and waits until they are gone. */
import { readdirSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "#base/error.ts";
import { isAlive, readUsage, signalProcess } from "#host/procfs.ts";
import type { ProcessRef } from "#host/procfs.ts";

const POLL_FIRST_MS = 1;
const POLL_GROWTH = 1.4;
const POLL_MAX_MS = 50;
/** A process that SIGKILL does not end in this time is stuck in the kernel. */
const KILL_DEADLINE_MS = 10_000;

/**
 * Tells whether the process is dead but some of its threads still exist: its sockets still listen, and its files are
 * still locked.
 */
function isEnding(ref: ProcessRef): boolean {
  if (readUsage(ref) === undefined) return false;
  try {
    return readdirSync(`/proc/${ref.pid}/task`).length > 1;
  } catch {
    return false; // It has ended meanwhile.
  }
}

/** Waits until the process is gone with all its threads. Returns false if it still exists after `deadlineMs`. */
export async function waitForEnd(ref: ProcessRef, deadlineMs: number, signal: AbortSignal): Promise<boolean> {
  const end = performance.now() + deadlineMs;
  for (
    let waitMs = POLL_FIRST_MS;
    isAlive(ref) || isEnding(ref);
    waitMs = Math.min(waitMs * POLL_GROWTH, POLL_MAX_MS)
  ) {
    signal.throwIfAborted();
    if (performance.now() >= end) return false;
    await delay(waitMs);
  }
  return true;
}

/** The signal that ended a process. */
export type EndSignal = "SIGTERM" | "SIGKILL";

/**
 * Sends SIGTERM, and SIGKILL if the process still exists after `graceMs`, because it ignores SIGTERM or is stopped.
 * With `graceMs` 0 it sends SIGKILL at once. Idempotent. Resolves when the process is gone.
 * @returns the signal that ended it, or undefined if it was gone already
 * @throws HearthError `host.tool_failed` if SIGKILL did not end it in ten seconds
 */
export async function endProcess(
  ref: ProcessRef,
  graceMs: number,
  signal: AbortSignal,
): Promise<EndSignal | undefined> {
  if (!isAlive(ref)) {
    await waitForEnd(ref, KILL_DEADLINE_MS, signal);
    return undefined;
  }
  if (graceMs > 0) {
    signalProcess(ref, "SIGTERM");
    if (await waitForEnd(ref, graceMs, signal)) return "SIGTERM";
  }
  signalProcess(ref, "SIGKILL");
  if (await waitForEnd(ref, KILL_DEADLINE_MS, signal)) return "SIGKILL";
  throw new HearthError("host.tool_failed", `Process ${ref.pid} did not end after SIGKILL.`, {
    hint: "It hangs in the kernel, usually because a disk or a network file system does not answer.",
  });
}
