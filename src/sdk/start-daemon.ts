/** Starts hearthd when nobody has, and waits until it answers. */
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
  /** For tests: another program in place of hearthd. */
  readonly entry?: string | undefined;
  readonly timeoutMs?: number | undefined;
};

/** hearthd opens its store, adopts running VMs and listens: less than a second, a minute where the CPU is emulated. */
const START_TIMEOUT_MS = 180_000;
const POLL_MS = 20;
/** The least that another hearthd has to come up; it may have died since it was met. */
const OTHER_MS = 1_000;
const LOG_TAIL_CHARS = 2_000;
/**
 * hearthd lives for weeks and is idle for most of them. V8 otherwise keeps up to 48 MiB for young objects;
 * with this it took 89 MiB after its start, and 106 without. It collects more often, which shows in long lists.
 */
const DAEMON_FLAGS = ["--disable-warning=ExperimentalWarning", "--max-semi-space-size=2"];

/** A hearthd that was started, and what became of it. */
type Attempt = {
  pid: number;
  readonly startedMs: number;
  end: { readonly code: number | null; readonly atMs: number } | undefined;
  failure: HearthError | undefined;
};

/**
 * @throws HearthError what hearthd said when it could not start, or `daemon.start_failed`.
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
    // Another one is on its way up: that will do as well, unless it has gone the same way.
    if (gaveWayUntilMs(attempt, logFile) < performance.now()) attempt = await launch(start, logFile);
    await sleep(POLL_MS);
  }
  // Who answers may have been started by somebody else. Ours ends by itself then, and that is waited for: it
  // must not come up later, when that other one has been told to stop.
  const answering = await transport.json<DaemonStatus>("GET", "/v1/daemon", {}, signal);
  const isOurs = answering.pid === attempt.pid;
  while (!isOurs && attempt.end === undefined && !inTime.signal.aborted) await sleep(POLL_MS);
  signal?.throwIfAborted();
  rmSync(logFile, { force: true });
}

function notInTime(logFile: string): HearthError {
  const hint = `Its words are in ${logFile}.`;
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
 * How long the other one may take for which this one has given way: as long as this one took to find it.
 * @throws what a hearthd said that could not start for another reason
 */
function gaveWayUntilMs(attempt: Attempt, logFile: string): number {
  const { startedMs, end } = attempt;
  if (end === undefined) return Infinity;
  // Read once: the words of one that gave way are removed with the reading.
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
    const hint = "Set HEARTH_HOME to a directory that you may write.";
    throw new HearthError("daemon.start_failed", `The directory ${path} cannot be made`, { hint, cause });
  }
}

/** The program lies beside this file's tree: `.ts` in a clone, `.js` where it was built. */
function daemonEntry(): string {
  return join(import.meta.dirname, "../../bin", `hearthd${extname(import.meta.filename)}`);
}

/**
 * What says where Hearth's directories are and how the net is reached, and no more: hearthd outlives the shell
 * that started it.
 */
function daemonEnv(env: StartDaemon["env"]): Record<string, string> {
  const passed = Object.entries(env).filter(([name]) =>
    /^(HEARTH_\w+|XDG_\w+|HOME|NODE_COMPILE_CACHE|NODE_USE_ENV_PROXY|(?:https?|no)_proxy)$/i.test(name),
  );
  return Object.fromEntries(passed.filter((pair): pair is [string, string] => pair[1] !== undefined));
}

/** hearthd says in one line of JSON why it cannot start; anything else is a crash. */
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
    hint: `Run \`hearth doctor\`; hearthd's words are in ${logFile}.`,
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
