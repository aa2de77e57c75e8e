/**
 * Named pipes between a program that outlives us and whoever reads it at the time. The program has both ends open
 * itself, so that a reader that goes away is no error to it, and never waits: what nobody reads is dropped once
 * the pipe is full (64 KiB), and the rest is there for the next reader.
 */
import { closeSync, constants, openSync } from "node:fs";
import { Socket } from "node:net";
import { runOrThrow } from "#host/run.ts";

const TIMEOUT_MS = 10_000;
const { O_RDONLY, O_RDWR, O_NONBLOCK, O_NOFOLLOW } = constants;

/** Nothing may be at these paths. Anybody may open them, so the directory decides who can. */
export async function makeFifos(paths: readonly string[], signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  // Too short to be cancelled: the caller gets its own reason, and finds all or none.
  const { signal: never } = new AbortController();
  await runOrThrow("mkfifo", ["-m", "0666", "--", ...paths], { timeoutMs: TIMEOUT_MS, signal: never });
  signal.throwIfAborted();
}

/** For a program's stdout. The caller closes it once the program has it. */
export function openFifoForProgram(path: string): number {
  return openSync(path, O_RDWR | O_NONBLOCK | O_NOFOLLOW);
}

/**
 * What comes out of the pipe; "end" when the last program that had it open is gone. Without a thread of Node's
 * pool, which a pipe opened as a file would keep busy for as long as nothing comes.
 */
export function readFifo(path: string): Socket {
  const fd = openSync(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW);
  try {
    return new Socket({ fd, readable: true, writable: false });
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
