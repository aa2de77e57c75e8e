/**
 * A lock between processes that the kernel releases when its owner dies. Node has no flock(2); SQLite's exclusive
 * transaction on an empty database is a lock on the file that belongs to the process.
 */
import { DatabaseSync } from "node:sqlite";
import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "#base/error.ts";

/** SQLITE_BUSY: another connection has the lock. */
const BUSY = 5;
/** SQLITE_READONLY and SQLITE_CANTOPEN: the directory is not writable. */
const READ_ONLY = new Set([8, 14]);
/**
 * The time for SQLite to retry, after 1, 2, 5 and 10 ms. When two processes begin at once, each can see the other in
 * the middle, and without a retry neither would get the lock.
 */
const RETRY_MS = 20;
/** Polling costs little, and the awaited work takes seconds. */
const POLL_MS = 100;

/** A lock that is released when it is disposed of, or when the process ends. */
export type FileLock = Disposable;

/**
 * Takes the lock, or returns undefined while this or another process has it.
 * @throws HearthError `host.read_only` if the lock's file cannot be made
 */
export function tryFileLock(path: string): FileLock | undefined {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path, { timeout: RETRY_MS });
    database.exec("BEGIN EXCLUSIVE");
  } catch (error) {
    database?.close();
    const code = (error as { errcode?: number }).errcode ?? 0;
    if ((code & 0xff) === BUSY) return undefined;
    if (!READ_ONLY.has(code & 0xff)) throw error;
    throw new HearthError("host.read_only", `Cannot write the lock file ${path}`, {
      hint: "Make the directory writable, or set HEARTH_HOME to another directory.",
      cause: error,
    });
  }
  const open = database;
  return { [Symbol.dispose]: () => open.close() };
}

/** Waits for the lock until the signal aborts; rejects with its reason then. Calls `onWait` once if it has to wait. */
export async function waitFileLock(path: string, onWait: () => void, signal: AbortSignal): Promise<FileLock> {
  for (let waited = false; ; waited = true) {
    signal.throwIfAborted();
    const lock = tryFileLock(path);
    if (lock !== undefined) return lock;
    if (!waited) onWait();
    await delay(POLL_MS, undefined, { signal });
  }
}
