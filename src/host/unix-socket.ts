/** Unix sockets that another program makes: is the path short enough, is it there yet, is it stale. */
import { rmSync } from "node:fs";
import { connect } from "node:net";
import type { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "#base/error.ts";

/** `sun_path` is 108 bytes with its end. */
const PATH_MAX_BYTES = 107;
const RETRY_FIRST_MS = 2;
const RETRY_MAX_MS = 50;
/** A VMM listens 15 to 40 ms after its start: whoever waits much longer each time misses that moment by far. */
const RETRY_GROWTH = 1.1;

/**
 * Node cuts longer paths silently, and would connect to another socket. BG-025.
 * @throws HearthError `host.path_too_long`
 */
export function checkSocketPath(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes <= PATH_MAX_BYTES) return;
  throw new HearthError(
    "host.path_too_long",
    `The socket path ${path} has ${bytes} bytes; ${PATH_MAX_BYTES} fit.`,
    {
      hint: "Set HEARTH_HOME to a folder with a shorter path.",
    },
  );
}

/** Idempotent. A socket that a dead program left would refuse its successor. */
export function removeStaleSocket(path: string): void {
  rmSync(path, { force: true });
}

/** Whether a program accepts connections at `path`; a socket whose program has ended refuses them. */
export async function isListening(path: string): Promise<boolean> {
  try {
    (await connectUnix(path, new AbortController().signal)).destroy();
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ECONNREFUSED") return false;
    throw error;
  }
}

/** One attempt. Rejects with the system's error, or with the reason of `signal`. */
export function connectUnix(path: string, signal: AbortSignal): Promise<Socket> {
  checkSocketPath(path);
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    const settle = (finish: () => void): void => {
      signal.removeEventListener("abort", onAbort);
      socket.removeAllListeners();
      finish();
    };
    const onAbort = (): void =>
      settle(() => {
        socket.on("error", () => {}); // Nobody waits for this attempt any more.
        socket.destroy();
        reject(signal.reason);
      });
    signal.addEventListener("abort", onAbort, { once: true });
    socket.once("error", (error) => settle(() => reject(error)));
    socket.once("connect", () => settle(() => resolve(socket)));
  });
}

/**
 * Tries until something listens at `path`. `givenUp` is asked before each new attempt: it returns the
 * reason why nobody will ever listen there (the program has died), or undefined. SV-024.
 * @throws what `givenUp` returned, or the reason of `signal`.
 */
export async function connectWhenReady(
  path: string,
  givenUp: () => Error | undefined,
  signal: AbortSignal,
): Promise<Socket> {
  for (let waitMs = RETRY_FIRST_MS; ; waitMs = Math.min(waitMs * RETRY_GROWTH, RETRY_MAX_MS)) {
    try {
      return await connectUnix(path, signal);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== "ENOENT" && code !== "ECONNREFUSED" && code !== "EAGAIN") throw error;
    }
    const reason = givenUp();
    if (reason !== undefined) throw reason;
    await pause(waitMs, signal);
  }
}

/** Like a timer's promise, but an abort rejects with the signal's own reason. */
async function pause(waitMs: number, signal: AbortSignal): Promise<void> {
  try {
    await delay(waitMs, undefined, { signal });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
}
