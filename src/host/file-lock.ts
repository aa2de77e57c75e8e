/**
 * A lock between processes that the kernel gives back when its holder dies, however it dies. Node has no
 * flock(2); SQLite's exclusive transaction on an empty database is a lock on the file, held by the process.
 */
import { DatabaseSync } from "node:sqlite";
import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "#base/error.ts";

/** SQLITE_BUSY: somebody else holds the lock. */
const BUSY = 5;
/** SQLITE_READONLY and SQLITE_CANTOPEN: the directory cannot be written. */
const READ_ONLY = new Set([8, 14]);
/**
 * Of two that begin at once, each can find the other in the middle, and neither would have the lock. SQLite looks
 * again after 1, 2, 5 and 10 ms.
 */
const SETTLE_MS = 20;
/** Waiting costs little, and what is waited for takes seconds. */
const POLL_MS = 100;

/** Held until it is disposed of, or the process ends. */
export type FileLock = Disposable;

/**
 * The lock, or undefined while somebody else holds it, in this process or another.
 * @throws HearthError `host.read_only` when the lock's file cannot be made.
 */
export function tryFileLock(path: string): FileLock | undefined {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path, { timeout: SETTLE_MS });
    database.exec("BEGIN EXCLUSIVE");
  } catch (error) {
    database?.close();
    const code = (error as { errcode?: number }).errcode ?? 0;
    if ((code & 0xff) === BUSY) return undefined;
    if (!READ_ONLY.has(code & 0xff)) throw error;
    throw new HearthError("host.read_only", `The lock ${path} cannot be written`, {
      hint: "Make the directory writable, or set HEARTH_HOME to one that is.",
      cause: error,
    });
  }
  const held = database;
  return { [Symbol.dispose]: () => held.close() };
}

/**
 * Waits for the lock as long as the signal allows. `onWait` is called once, if somebody else holds it.
 * Rejects with the signal's reason when aborted.
 */
export async function waitFileLock(path: string, onWait: () => void, signal: AbortSignal): Promise<FileLock> {
  for (let waited = false; ; waited = true) {
    signal.throwIfAborted();
    const lock = tryFileLock(path);
    if (lock !== undefined) return lock;
    if (!waited) onWait();
    await delay(POLL_MS, undefined, { signal });
  }
}
