/**
 * Connects to Unix sockets of other programs: checks that the path is short enough, that the socket exists, is not
 * stale, and belongs to the program. The program may be hostile and put a link in place of its socket, so connecting
 * never follows one.
 */
import { closeSync, constants, fstatSync, openSync, rmSync } from "node:fs";
import type { Stats } from "node:fs";
import { connect } from "node:net";
import type { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "#base/error.ts";
import { O_PATH } from "#host/open-flags.ts";

/** `sun_path` has 108 bytes including the terminating NUL. */
const PATH_MAX_BYTES = 107;
const RETRY_FIRST_MS = 2;
const RETRY_MAX_MS = 50;
/** A VMM listens 15 to 40 ms after its start. With longer delays that moment would be missed by far. */
const RETRY_GROWTH = 1.1;

/**
 * Checks the length of a socket path. Node silently cuts longer ones, and would connect to another socket.
 * @throws HearthError `host.path_too_long`
 */
export function checkSocketPath(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes <= PATH_MAX_BYTES) return;
  throw new HearthError(
    "host.path_too_long",
    `The socket path ${path} has ${bytes} bytes; the limit is ${PATH_MAX_BYTES}.`,
    {
      hint: "Set HEARTH_HOME to a directory with a shorter path.",
    },
  );
}

/** Removes the socket of a dead program, with which the next program could not listen. Idempotent. */
export function removeStaleSocket(path: string): void {
  rmSync(path, { force: true });
}

/** The uid of the program that should listen; undefined means this process's uid. */
export type SocketOwner = number | "anyone" | undefined;

/** Tells whether a program accepts connections at `path`. A socket whose program has ended refuses them. */
export async function isListening(path: string): Promise<boolean> {
  try {
    const { signal } = new AbortController();
    (await awaitConnect(dialUnix(path, "anyone"), signal)).destroy();
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // Nothing can listen on a file that is not a socket.
    if (code === "ENOENT" || code === "ECONNREFUSED" || code === "path.unmanaged") return false;
    throw error;
  }
}

/**
 * Begins to connect to the socket at `path`, which is proven to be a socket of `owner` and no link to another one. The
 * socket that was checked is the one that is connected to, even if its directory changes meanwhile.
 * @throws HearthError `path.unmanaged` if it is not a socket, or belongs to another user; the system's error if it does
 * not exist
 */
export function dialUnix(path: string, owner: SocketOwner): Socket {
  checkSocketPath(path);
  const fd = openSync(path, O_PATH | constants.O_NOFOLLOW);
  const shown = `/proc/self/fd/${fd}`;
  try {
    checkSocket(path, fstatSync(fd), owner ?? process.geteuid?.());
    // Node calls connect(2) before this returns, so the descriptor can be closed.
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
        ? `it belongs to uid ${stats.uid}, not to ${owner}`
        : undefined;
  if (wrong === undefined) return;
  throw new HearthError("path.unmanaged", `Cannot connect to ${path}: ${wrong}.`, {
    hint: "The program that should listen there may be compromised: stop it with `hearth kill`.",
  });
}

/**
 * Connects in one attempt; `owner` and errors as in `dialUnix`. Rejects with the system's error, or with the reason of
 * `signal`.
 */
export async function connectUnix(path: string, owner: SocketOwner, signal: AbortSignal): Promise<Socket> {
  signal.throwIfAborted();
  return awaitConnect(dialUnix(path, owner), signal);
}

function awaitConnect(socket: Socket, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const finishWith = (finish: () => void): void => {
      signal.removeEventListener("abort", onAbort);
      socket.removeAllListeners();
      finish();
    };
    const onAbort = (): void =>
      finishWith(() => {
        socket.on("error", () => {}); // The attempt is over; a later error has no reader.
        socket.destroy();
        reject(signal.reason);
      });
    signal.addEventListener("abort", onAbort, { once: true });
    socket.once("error", (error) => finishWith(() => reject(error)));
    socket.once("connect", () => finishWith(() => resolve(socket)));
  });
}

/**
 * Retries until a program listens at `path`; `owner` as in `dialUnix`. Calls `findFailure` before each new attempt: it
 * returns an error if no program will ever listen there (it has died), or undefined.
 * @throws the error of `findFailure`, or the reason of `signal`
 */
export async function connectWhenReady(
  path: string,
  owner: SocketOwner,
  findFailure: () => Error | undefined,
  signal: AbortSignal,
): Promise<Socket> {
  for (let waitMs = RETRY_FIRST_MS; ; waitMs = Math.min(waitMs * RETRY_GROWTH, RETRY_MAX_MS)) {
    try {
      return await connectUnix(path, owner, signal);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== "ENOENT" && code !== "ECONNREFUSED" && code !== "EAGAIN") throw error;
    }
    const reason = findFailure();
    if (reason !== undefined) throw reason;
    await pause(waitMs, signal);
  }
}

/** Waits like a timer's promise, but rejects with the signal's own reason. */
async function pause(waitMs: number, signal: AbortSignal): Promise<void> {
  try {
    await delay(waitMs, undefined, { signal });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
}
