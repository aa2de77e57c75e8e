/**
 * Starts hearthd if it does not run, and waits until it answers.
 *
 * 1. Start a detached hearthd, whose stderr goes to a log file.
 * 2. Poll the socket until something answers.
 * 3. If the process ended because another hearthd has the lock, wait for that one, and start again if it never answers.
 * 4. If it ended for another reason, throw the error that it wrote, or `daemon.start_failed`.
 * 5. If another hearthd answers, wait until the process that was started here has ended, so that it cannot come up
 *    later.
 */
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { extname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { abortAfter } from "#base/deadline.ts";
import { HearthError } from "#base/error.ts";
import type { DaemonStatus } from "#api/wire.ts";
import type { ErrorBody } from "#base/error.ts";
import { apiSocketPath } from "#base/hearth-dirs.ts";
import type { Dirs } from "#base/hearth-dirs.ts";
import { errorFromBody, Transport } from "#sdk/transport.ts";

export type StartDaemon = {
  readonly dirs: Dirs;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Another program in place of hearthd, for tests. */
  readonly entry?: string | undefined;
  readonly timeoutMs?: number | undefined;
};

/**
 * The time for hearthd to open its store, adopt VMs and listen: less than 1 s with KVM, a minute on an emulated CPU.
 */
const START_TIMEOUT_MS = 180_000;
const POLL_MS = 20;
/** The shortest time to wait for another hearthd, which may have ended since its lock was seen. */
const OTHER_MS = 1_000;
const LOG_TAIL_CHARS = 2_000;
/**
 * Reduces the memory of hearthd, which runs for weeks and is mostly idle. By default V8 keeps up to 48 MiB for young
 * objects. Measured after the start: 89 MiB with the flag, 106 MiB without. V8 collects garbage more often, which shows
 * in long lists.
 */
const DAEMON_FLAGS = ["--disable-warning=ExperimentalWarning", "--max-semi-space-size=2"];
/**
 * Has the C library return a buffer of 128 KiB or more to the kernel when it is freed. Left to itself, it raises that
 * size to the largest buffer that was freed, and later ones, such as the 1 MiB in which files are hashed, stay in its
 * heap.
 */
const DAEMON_ENV = { MALLOC_MMAP_THRESHOLD_: String(128 * 1024) };

/** A hearthd that was started here, and its end. */
type Attempt = {
  pid: number;
  readonly startedMs: number;
  end: { readonly code: number | null; readonly atMs: number } | undefined;
  failure: HearthError | undefined;
};

/**
 * Starts hearthd and resolves when it, or another hearthd of this user, answers.
 * @throws HearthError the error that hearthd wrote when it could not start, or `daemon.start_failed`.
 */
export async function startDaemon(start: StartDaemon, signal?: AbortSignal): Promise<void> {
  const { dirs } = start;
  makeRunDir(dirs.run);
  const logFile = join(dirs.run, `start-${process.pid}.log`);
  using inTime = abortAfter(start.timeoutMs ?? START_TIMEOUT_MS, () => notInTime(logFile), signal);
  const transport = new Transport(apiSocketPath(dirs));
  let attempt = await launch(start, logFile);
  while (!(await transport.answers())) {
    inTime.signal.throwIfAborted();
    // Another hearthd has the lock and gets time to come up, unless its time is over.
    if (gaveWayUntilMs(attempt, logFile) < performance.now()) attempt = await launch(start, logFile);
    await sleep(POLL_MS);
  }
  // Another hearthd may have answered. The one that was started here ends by itself then. It is waited for: otherwise
  // it could come up later, after the other one has been told to stop.
  const answering = await transport.json<DaemonStatus>("GET", "/v1/daemon", {}, signal);
  const isStartedHere = answering.pid === attempt.pid;
  while (!isStartedHere && attempt.end === undefined && !inTime.signal.aborted) await sleep(POLL_MS);
  signal?.throwIfAborted();
  rmSync(logFile, { force: true });
}

function notInTime(logFile: string): HearthError {
  const hint = `Its output is in ${logFile}.`;
  return new HearthError("daemon.start_failed", "hearthd did not answer in time", { hint });
}

async function launch({ entry, env }: StartDaemon, logFile: string): Promise<Attempt> {
  const { startDetached } = await import("#host/run.ts");
  rmSync(logFile, { force: true });
  const attempt: Attempt = { pid: 0, startedMs: performance.now(), end: undefined, failure: undefined };
  attempt.pid = await startDetached(process.execPath, [...DAEMON_FLAGS, entry ?? daemonEntry()], {
    cwd: "/",
    env: daemonEnv(env),
    logFile,
    onExit: (code) => (attempt.end = { code, atMs: performance.now() }),
  });
  return attempt;
}

/**
 * Returns the time until which another hearthd may come up, if the attempt ended because that one has the lock: as long
 * from now as the attempt took. Infinity while the attempt runs.
 * @throws the error of an attempt that ended for another reason.
 */
function gaveWayUntilMs(attempt: Attempt, logFile: string): number {
  const { startedMs, end } = attempt;
  if (end === undefined) return Infinity;
  // Read once: reading the log of an attempt that another hearthd ended also deletes it.
  attempt.failure ??= failureIn(logFile, end.code);
  if (attempt.failure.code !== "host.lock_held") throw attempt.failure;
  return end.atMs + Math.max(OTHER_MS, end.atMs - startedMs);
}

function makeRunDir(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code !== "EACCES" && code !== "EPERM" && code !== "ENOTDIR" && code !== "EEXIST") throw cause;
    const hint = "Set HEARTH_HOME to a directory that you can write.";
    throw new HearthError("daemon.start_failed", `Cannot create the directory ${path}`, { hint, cause });
  }
}

/** Returns the program's path: `.ts` in a clone, `.js` in a build. */
function daemonEntry(): string {
  return join(import.meta.dirname, "../../bin", `hearthd${extname(import.meta.filename)}`);
}

/**
 * Selects the environment variables for hearthd, which outlives the shell that started it: those of Hearth's
 * directories and of the network proxy. Adds its own.
 */
function daemonEnv(env: StartDaemon["env"]): Record<string, string> {
  const passed = Object.entries(env).filter(([name]) =>
    /^(HEARTH_\w+|XDG_\w+|HOME|NODE_COMPILE_CACHE|NODE_USE_ENV_PROXY|(?:https?|no)_proxy)$/i.test(name),
  );
  const known = passed.filter((pair): pair is [string, string] => pair[1] !== undefined);
  return { ...DAEMON_ENV, ...Object.fromEntries(known) };
}

/**
 * Reads the error that hearthd wrote in one line of JSON. Anything else is a crash, whose stderr tail becomes the
 * cause.
 */
function failureIn(logFile: string, code: number | null): HearthError {
  const text = existsSync(logFile) ? readFileSync(logFile, "utf8") : "";
  const body = text
    .split("\n")
    .map(errorLine)
    .findLast((line) => line !== undefined);
  if (body !== undefined) {
    rmSync(logFile, { force: true });
    return errorFromBody(body);
  }
  const tail = text.trim().slice(-LOG_TAIL_CHARS);
  const how = code === null ? "was killed" : `ended with ${code}`;
  return new HearthError("daemon.start_failed", `hearthd could not start: it ${how}`, {
    hint: `Run \`hearth doctor\`; the output of hearthd is in ${logFile}.`,
    cause: tail === "" ? undefined : new Error(tail),
  });
}

function errorLine(line: string): ErrorBody | undefined {
  if (!line.startsWith('{"error"')) return undefined;
  try {
    return (JSON.parse(line) as { error: ErrorBody }).error;
  } catch {
    return undefined; // Cut off in the middle; the whole text is shown instead.
  }
}
