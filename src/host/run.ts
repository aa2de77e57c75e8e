/**
 * Runs other programs: no shell, a fixed environment, always a deadline, bounded output. `child_process` and execa are
 * imported nowhere else; a test checks that.
 */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import type { Readable, Writable } from "node:stream";
import { HearthError } from "#base/error.ts";

/** The environment of programs, and the search path for them. Callers may add variables. */
export const PROGRAM_ENV = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  LC_ALL: "C.UTF-8",
} as const;
const OUTPUT_MAX_BYTES = 16 * 1024 * 1024;
const ERROR_TAIL_CHARS = 2_000;
/** The time between SIGTERM and SIGKILL. */
const KILL_AFTER_MS = 2_000;

export type RunOptions = {
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly input?: string | Uint8Array | undefined;
  readonly cwd?: string | undefined;
  /** Must not contain secrets: other users may read a process's environment in a core dump or a log. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** Open files for the program, from its fd 3 on. The caller closes them. */
  readonly fds?: readonly number[] | undefined;
  /** Called with each line of stderr, for progress. */
  readonly onStderrLine?: ((line: string) => void) | undefined;
};

export type RunResult =
  | { readonly ok: true; readonly stdout: string; readonly stderr: string }
  | {
      readonly ok: false;
      readonly stdout: string;
      readonly stderr: string;
      readonly code: number | undefined;
      /** `host.tool_missing`, `host.tool_failed` or `operation.cancelled`; its cause contains the stderr tail. */
      readonly error: HearthError;
    };

export type Run = (file: string, args: readonly string[], options: RunOptions) => Promise<RunResult>;

export const run: Run = async (file, args, options) => {
  // Loaded here: the CLI imports this file to start hearthd, and does not need execa.
  const { execa } = await import("execa");
  const child = execa(file, args, {
    reject: false,
    env: { ...PROGRAM_ENV, HOME: process.env["HOME"] ?? "/", ...options.env },
    extendEnv: false,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.input === undefined ? {} : { input: options.input }),
    // execa's types know no descriptor above 9.
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

/** Runs a program, returns its stdout and throws the error of a failure. */
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
    // The program failed; its result, which the caller awaits, says why.
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
  const quoted = [file, ...args].map((arg) => (/^[\w@%+=:,./-]+$/.test(arg) ? arg : JSON.stringify(arg)));
  const command = quoted.join(" ").slice(0, 1_000);
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

/** The Debian packages of the programs that Hearth needs. */
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
  nsenter: "util-linux",
  umount: "mount",
  tee: "coreutils",
  ip: "iproute2",
  nft: "nftables",
  pasta: "passt",
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

/** Returns the package that contains `file`, for `hearth doctor`. */
export function packageOf(file: string): string | undefined {
  return PACKAGES[file];
}

export type DetachedOptions = {
  readonly cwd: string;
  /**
   * The log to which stdout and stderr are appended: the path of a file, which is created with mode 0600, or an open
   * file, which the caller closes.
   */
  readonly logFile: string | number;
  /** An open file for stdout instead of the log. The caller closes it after the program was started. */
  readonly stdout?: number | undefined;
  /** An open file for stdin, which is otherwise empty. The caller closes it. */
  readonly stdin?: number | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** The program's umask; by default hearthd's. */
  readonly umask?: number | undefined;
  /** Further open files for the program, after the others. The caller closes them. */
  readonly fds?: readonly number[] | undefined;
  readonly onExit: (code: number | null, signal: NodeJS.Signals | null) => void;
};

/**
 * Starts a program that outlives hearthd: in a new session, with no pipe to hearthd that could break. Resolves with the
 * pid once the program was executed.
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
  /** The text that it wrote to its fd 3 until it closed it, at most 64 KiB; empty if it ended before. */
  readonly told: Promise<string>;
  /** Lets the program continue: it reads a byte, then the end, from its fd 4. Closes the pipes. Idempotent. */
  release(): void;
};

/** The maximum length of the text from a blocked program. */
const TOLD_MAX_CHARS = 64 * 1024;

/** Starts a launcher that outlives hearthd, writes a text to its fd 3 and blocks on its fd 4 until it is released. */
export async function startHeld(
  file: string,
  args: readonly string[],
  options: DetachedOptions,
): Promise<HeldProgram> {
  const child = await spawnDetached(file, args, options, ["pipe", "pipe"]);
  const [, , , toldPipe, releasePipe] = child.stdio as unknown as [null, null, null, Readable, Writable];
  // A program that ends with the pipe open is reported by its exit.
  toldPipe.on("error", () => {});
  releasePipe.on("error", () => {});
  return {
    pid: child.pid ?? 0,
    told: readAll(toldPipe),
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

/** Calls `act` with a umask, which a program inherits when it is started. */
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
