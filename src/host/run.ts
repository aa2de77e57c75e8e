/**
 * The one door to other programs: no shell, a fixed environment, always a deadline, bounded output.
 * `child_process` and execa are imported nowhere else; a test checks that.
 */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import type { Readable, Writable } from "node:stream";
import { HearthError } from "#base/error.ts";

/** Where programs are looked for, and what they get as their environment; callers may add to it. */
export const PROGRAM_ENV = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  LC_ALL: "C.UTF-8",
} as const;
const OUTPUT_MAX_BYTES = 16 * 1024 * 1024;
const ERROR_TAIL_CHARS = 2_000;
/** A program that ignores SIGTERM gets SIGKILL after this. */
const KILL_AFTER_MS = 2_000;

export type RunOptions = {
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly input?: string | Uint8Array | undefined;
  readonly cwd?: string | undefined;
  /** Never secrets: other users may read a process' environment in a core dump or log. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** Open files for the program, from its fd 3 on. They stay the caller's. */
  readonly fds?: readonly number[] | undefined;
  /** Each line of stderr as it comes, for progress. */
  readonly onStderrLine?: ((line: string) => void) | undefined;
};

export type RunResult =
  | { readonly ok: true; readonly stdout: string; readonly stderr: string }
  | {
      readonly ok: false;
      readonly stdout: string;
      readonly stderr: string;
      readonly code: number | undefined;
      /** `host.tool_missing`, `host.tool_failed` or `operation.cancelled`; its cause holds the last words. */
      readonly error: HearthError;
    };

export type Run = (file: string, args: readonly string[], options: RunOptions) => Promise<RunResult>;

export const run: Run = async (file, args, options) => {
  // Loaded here: the CLI comes through this file to start hearthd, and does not need it.
  const { execa } = await import("execa");
  const child = execa(file, args, {
    reject: false,
    env: { ...PROGRAM_ENV, HOME: process.env["HOME"] ?? "/", ...options.env },
    extendEnv: false,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.input === undefined ? {} : { input: options.input }),
    // Its types know no descriptor above 9.
    stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe", ...((options.fds ?? []) as 3[])],
    timeout: options.timeoutMs,
    cancelSignal: options.signal,
    forceKillAfterDelay: KILL_AFTER_MS,
    maxBuffer: OUTPUT_MAX_BYTES,
    stripFinalNewline: false,
  });
  if (options.onStderrLine !== undefined)
    void followLines(child.iterable({ from: "stderr" }), options.onStderrLine);
  const result = await child;
  const stdout = String(result.stdout ?? "");
  const stderr = String(result.stderr ?? "");
  if (!result.failed) return { ok: true, stdout, stderr };
  return {
    ok: false,
    stdout,
    stderr,
    code: result.exitCode,
    error: runError(file, args, stderr, result, options),
  };
};

/** For callers with nothing of their own to say about a failure. */
export async function runOrThrow(
  file: string,
  args: readonly string[],
  options: RunOptions,
): Promise<string> {
  const result = await run(file, args, options);
  if (!result.ok) throw result.error;
  return result.stdout;
}

async function followLines(lines: AsyncIterable<unknown>, onLine: (line: string) => void): Promise<void> {
  try {
    for await (const line of lines) onLine(String(line));
  } catch {
    // The program failed; its result, which the caller awaits, says how.
  }
}

type Failure = {
  readonly isCanceled: boolean;
  readonly timedOut: boolean;
  readonly isMaxBuffer: boolean;
  readonly signal?: string | undefined;
  readonly exitCode?: number | undefined;
  readonly code?: string | undefined;
};

function runError(
  file: string,
  args: readonly string[],
  stderr: string,
  failure: Failure,
  options: RunOptions,
): HearthError {
  if (failure.isCanceled) {
    return new HearthError("operation.cancelled", `\`${file}\` was cancelled.`, {
      cause: options.signal.reason,
    });
  }
  if (failure.code === "ENOENT") return missingTool(file);
  const words = [file, ...args].map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : JSON.stringify(word)));
  const command = words.join(" ").slice(0, 1_000);
  const tail = stderr.trim().slice(-ERROR_TAIL_CHARS);
  return new HearthError(
    "host.tool_failed",
    `\`${command}\` ${describeFailure(failure, options.timeoutMs)}`,
    {
      cause: tail === "" ? undefined : new Error(tail),
    },
  );
}

function describeFailure(failure: Failure, timeoutMs: number): string {
  if (failure.timedOut) return `did not finish in ${timeoutMs} ms`;
  if (failure.isMaxBuffer) return `wrote more than ${OUTPUT_MAX_BYTES} bytes`;
  if (failure.signal !== undefined) return `was killed by ${failure.signal}`;
  return `failed with ${failure.exitCode ?? failure.code ?? "no exit code"}`;
}

/** Which Debian package brings a program that Hearth needs. */
const PACKAGES: Readonly<Record<string, string>> = {
  "qemu-system-x86_64": "qemu-system-x86",
  "qemu-img": "qemu-utils",
  mmdebstrap: "mmdebstrap",
  mke2fs: "e2fsprogs",
  debugfs: "e2fsprogs",
  cpio: "cpio",
  xz: "xz-utils",
  zstd: "zstd",
  depmod: "kmod",
  modinfo: "kmod",
  unshare: "util-linux",
  setpriv: "util-linux",
  prlimit: "util-linux",
  bwrap: "bubblewrap",
  "dpkg-deb": "dpkg",
  "apt-get": "apt",
  newuidmap: "uidmap",
  tar: "tar",
};

export function missingTool(file: string): HearthError {
  const name = PACKAGES[file];
  const hint = name === undefined ? `Install ${file}.` : `Install it: apt-get install ${name}`;
  return new HearthError("host.tool_missing", `\`${file}\` is not installed.`, { hint });
}

/** The package that brings `file`, for `doctor`. */
export function packageOf(file: string): string | undefined {
  return PACKAGES[file];
}

export type DetachedOptions = {
  readonly cwd: string;
  /** stdout and stderr are appended here: a file, created with mode 0600, or one that is open and stays the caller's. */
  readonly logFile: string | number;
  /** An open file for stdout in place of the log. It stays the caller's, to close when the program was started. */
  readonly stdout?: number | undefined;
  /** The same for stdin, which is empty otherwise. */
  readonly stdin?: number | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** Of the program; ours when left out. */
  readonly umask?: number | undefined;
  /** More open files for the program, after those that it has anyway. They stay the caller's. */
  readonly fds?: readonly number[] | undefined;
  readonly onExit: (code: number | null, signal: NodeJS.Signals | null) => void;
};

/**
 * Starts a program that outlives us: a session of its own, no pipe to us that could break.
 * Resolves with the pid once the program was executed.
 */
export async function startDetached(
  file: string,
  args: readonly string[],
  options: DetachedOptions,
): Promise<number> {
  return (await spawnDetached(file, args, options, [])).pid ?? 0;
}

/** A program that was started with `startHeld`. */
export type HeldProgram = {
  readonly pid: number;
  /** What it wrote on its fd 3 until it closed it, at most 64 KiB; empty where it ended before. */
  readonly told: Promise<string>;
  /** Lets it go on: it reads a byte, then the end, from its fd 4. Idempotent; what is left of the pipes goes too. */
  release(): void;
};

/** What a held program may tell us. */
const TOLD_MAX_CHARS = 64 * 1024;

/** The same, for a launcher that says something on its fd 3 and waits on its fd 4 until it is let go. */
export async function startHeld(
  file: string,
  args: readonly string[],
  options: DetachedOptions,
): Promise<HeldProgram> {
  const child = await spawnDetached(file, args, options, ["pipe", "pipe"]);
  const [, , , said, releasePipe] = child.stdio as unknown as [null, null, null, Readable, Writable];
  // Whoever ended with the pipe open is reported by its exit.
  said.on("error", () => {});
  releasePipe.on("error", () => {});
  return {
    pid: child.pid ?? 0,
    told: readAll(said),
    release() {
      if (!releasePipe.writableEnded) releasePipe.end("x", () => releasePipe.destroy());
    },
  };
}

function readAll(stream: Readable): Promise<string> {
  let text = "";
  return new Promise((resolve) => {
    stream.setEncoding("utf8");
    stream.on("data", (chunk: string) => {
      text += chunk;
      if (text.length > TOLD_MAX_CHARS) stream.destroy();
    });
    stream.once("close", () => resolve(text));
  });
}

/** A program has the umask that we have at this moment. */
function withUmask<Result>(mask: number, act: () => Result): Result {
  const before = process.umask(mask);
  try {
    return act();
  } finally {
    process.umask(before);
  }
}

function spawnDetached(
  file: string,
  args: readonly string[],
  options: DetachedOptions,
  more: readonly "pipe"[],
): Promise<ChildProcess> {
  const log = typeof options.logFile === "number" ? options.logFile : openSync(options.logFile, "a", 0o600);
  try {
    const start = (): ChildProcess =>
      spawn(file, args, {
        cwd: options.cwd,
        env: { ...PROGRAM_ENV, ...options.env },
        detached: true,
        stdio: [options.stdin ?? "ignore", options.stdout ?? log, log, ...more, ...(options.fds ?? [])],
      });
    const child = options.umask === undefined ? start() : withUmask(options.umask, start);
    return new Promise((resolve, reject) => {
      child.once("error", (cause: NodeJS.ErrnoException) => {
        if (cause.code === "ENOENT") return reject(missingTool(file));
        reject(new HearthError("host.tool_failed", `\`${file}\` could not be started`, { cause }));
      });
      child.once("exit", options.onExit);
      child.once("spawn", () => {
        child.unref();
        resolve(child);
      });
    });
  } finally {
    if (typeof options.logFile === "string") closeSync(log);
  }
}
