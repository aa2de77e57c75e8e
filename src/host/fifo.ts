/**
 * Named pipes from a program that outlives hearthd to its current reader. The program itself has both ends open, so it
 * gets no error when a reader closes the pipe, and it never blocks: when the pipe is full (64 KiB), further output is
 * lost, and the next reader gets the content of the pipe.
 */
import { closeSync, constants, openSync } from "node:fs";
import { Socket } from "node:net";
import { runOrThrow } from "#host/run.ts";

const TIMEOUT_MS = 10_000;
const { O_RDONLY, O_RDWR, O_NONBLOCK, O_NOFOLLOW } = constants;

/** Makes pipes at paths that must not exist. Anybody may open them, so the directory decides who can. */
export async function makeFifos(paths: readonly string[], signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  // Too short to be cancelled: the caller gets its own reason, and finds all pipes or none.
  const { signal: never } = new AbortController();
  await runOrThrow("mkfifo", ["-m", "0666", "--", ...paths], { timeoutMs: TIMEOUT_MS, signal: never });
  signal.throwIfAborted();
}

/** Opens a pipe as a program's stdout. The caller closes it after the program was started. */
export function openFifoForProgram(path: string): number {
  return openSync(path, O_RDWR | O_NONBLOCK | O_NOFOLLOW);
}

/**
 * Reads the pipe; "end" comes when the last program that had it open has ended. Uses no thread of Node's pool, which a
 * pipe opened as a file would block until data comes.
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
