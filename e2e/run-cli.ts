import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";

export type CliOptions = {
  readonly env?: Readonly<Record<string, string>> | undefined;
  readonly stdin?: string | Uint8Array | undefined;
  readonly cwd?: string | undefined;
  readonly timeoutMs?: number | undefined;
  /** Called once the program runs, to signal it or to read what it prints as it comes. */
  readonly onStart?: ((child: ChildProcess) => void) | undefined;
};

export type CliResult = {
  /** 128+n when signal n ended it. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly stdoutBytes: Buffer;
};

/** A program as a shell would start it, with its output kept as bytes. */
export function runCli(file: string, args: readonly string[], options: CliOptions): Promise<CliResult> {
  const child = spawn(file, args, {
    env: { ...options.env },
    cwd: options.cwd,
    stdio: [options.stdin === undefined ? "ignore" : "pipe", "pipe", "pipe"],
    timeout: options.timeoutMs,
    killSignal: "SIGKILL",
  });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout?.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr?.on("data", (chunk: Buffer) => stderr.push(chunk));
  child.stdin?.on("error", () => {}); // It may end before it has read everything.
  child.stdin?.end(options.stdin);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("spawn", () => options.onStart?.(child));
    child.once("close", (code, signal) => {
      const bytes = Buffer.concat(stdout);
      resolve({
        code: code ?? 128 + (signal === "SIGKILL" ? 9 : 15),
        stdout: bytes.toString(),
        stderr: Buffer.concat(stderr).toString(),
        stdoutBytes: bytes,
      });
    });
  });
}
