/**
 * Unix sockets that another program makes: is the path short enough, is it there yet, is it stale, is it a socket of
 * that program at all. The program may be hostile and put a link where its socket should be, so connecting never
 * follows one.
 */
import { closeSync, constants, fstatSync, openSync, rmSync } from "node:fs";
import type { Stats } from "node:fs";
import { connect } from "node:net";
import type { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "#base/error.ts";
import { O_PATH } from "#host/open-flags.ts";

/** `sun_path` is 108 bytes with its end. */
const PATH_MAX_BYTES = 107;
const RETRY_FIRST_MS = 2;
const RETRY_MAX_MS = 50;
/** A VMM listens 15 to 40 ms after its start: whoever waits much longer each time misses that moment by far. */
const RETRY_GROWTH = 1.1;

/**
 * Node cuts longer paths silently, and would connect to another socket.
 * @throws HearthError `host.path_too_long`
 */
export function checkSocketPath(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes <= PATH_MAX_BYTES) return;
  throw new HearthError(
    "host.path_too_long",
    `The socket path ${path} has ${bytes} bytes; ${PATH_MAX_BYTES} fit.`,
    {
      hint: "Set HEARTH_HOME to a directory with a shorter path.",
    },
  );
}

/** Idempotent. A socket that a dead program left would refuse its successor. */
export function removeStaleSocket(path: string): void {
  rmSync(path, { force: true });
}

/** The uid of the program that is to listen; undefined: the own one. */
export type SocketOwner = number | "anyone" | undefined;

/** Whether a program accepts connections at `path`; a socket whose program has ended refuses them. */
export async function isListening(path: string): Promise<boolean> {
  try {
    const { signal } = new AbortController();
    (await settleConnect(dialUnix(path, "anyone"), signal)).destroy();
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // What is no socket serves nobody.
    if (code === "ENOENT" || code === "ECONNREFUSED" || code === "path.unmanaged") return false;
    throw error;
  }
}

/**
 * Begins to connect to the socket at `path`, which is proven to be a socket of `owner`, and no link to another one:
 * what was looked at is what is connected to, whatever its directory shows by now.
 * @throws HearthError `path.unmanaged` for what is no socket, or another user's; the system's error when nothing is there
 */
export function dialUnix(path: string, owner: SocketOwner): Socket {
  checkSocketPath(path);
  const fd = openSync(path, O_PATH | constants.O_NOFOLLOW);
  const shown = `/proc/self/fd/${fd}`;
  try {
    checkSocket(path, fstatSync(fd), owner ?? process.geteuid?.());
    // Node calls connect(2) before this returns, so the descriptor is needed no longer.
    const socket = connect({ path: shown });
    socket.once("error", (error) => (error.message = error.message.replace(shown, path)));
    return socket;
  } finally {
    closeSync(fd);
  }
}

function checkSocket(path: string, stats: Stats, owner: SocketOwner): void {
  const wrong = stats.isSymbolicLink()
    ? "it is a symbolic link"
    : !stats.isSocket()
      ? "it is not a socket"
      : owner !== "anyone" && stats.uid !== owner
        ? `it belongs to uid ${stats.uid}, and not to ${owner}`
        : undefined;
  if (wrong === undefined) return;
  throw new HearthError("path.unmanaged", `Cannot connect to ${path}: ${wrong}.`, {
    hint: "The program that should listen there may have been taken over: stop it with `hearth kill`.",
  });
}

/** One attempt; `owner` as in `dialUnix`, which it throws like. Rejects with the system's error, or with the reason of `signal`. */
export async function connectUnix(path: string, owner: SocketOwner, signal: AbortSignal): Promise<Socket> {
  signal.throwIfAborted();
  return settleConnect(dialUnix(path, owner), signal);
}

function settleConnect(socket: Socket, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
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
 * Tries until something listens at `path`; `owner` as in `dialUnix`. `givenUp` is asked before each new attempt: it returns the
 * reason why nobody will ever listen there (the program has died), or undefined.
 * @throws what `givenUp` returned, or the reason of `signal`.
 */
export async function connectWhenReady(
  path: string,
  owner: SocketOwner,
  givenUp: () => Error | undefined,
  signal: AbortSignal,
): Promise<Socket> {
  for (let waitMs = RETRY_FIRST_MS; ; waitMs = Math.min(waitMs * RETRY_GROWTH, RETRY_MAX_MS)) {
    try {
      return await connectUnix(path, owner, signal);
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
