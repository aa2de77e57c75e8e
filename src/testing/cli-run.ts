/** Runs a command line in this process, against a fake hearthd, with streams that a test holds. */
import { PassThrough } from "node:stream";
import type { Io } from "#cli/io.ts";
import { main } from "#cli/main.ts";
import type { FakeApi } from "#testing/fake-api.ts";

export type CliOptions = {
  /** What comes on stdin, and then its end; a stream is taken as it is. */
  readonly stdin?: string | PassThrough;
  /** stdin, stdout and stderr are a terminal of this width. */
  readonly terminalColumns?: number;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
};

/** One command line, run in this process against a fake hearthd. */
export class CliRun {
  readonly stdin: PassThrough;
  /** What was asked of the terminal: raw or not. */
  readonly rawModes: boolean[] = [];
  readonly code: Promise<number>;
  readonly stdoutStream = new PassThrough();
  #stdout: Buffer[] = [];
  #stderr: Buffer[] = [];
  readonly #handlers = new Map<string, Set<() => void>>();

  constructor(api: FakeApi | undefined, argv: readonly string[], options: CliOptions = {}) {
    const { stdin = "", terminalColumns, env = {}, cwd = process.cwd() } = options;
    const isTTY = terminalColumns !== undefined;
    this.stdin = typeof stdin === "string" ? new PassThrough() : stdin;
    if (typeof stdin === "string") this.stdin.end(stdin);
    const stderr = new PassThrough();
    this.stdoutStream.on("data", (chunk: Buffer) => this.#stdout.push(chunk));
    stderr.on("data", (chunk: Buffer) => this.#stderr.push(chunk));
    const size = isTTY ? { isTTY, columns: terminalColumns, rows: 24 } : {};
    const io: Io = {
      argv,
      env: { ...(api && { HEARTH_HOME: api.home }), ...env },
      cwd,
      stdin: Object.assign(this.stdin, {
        isTTY,
        setRawMode: (on: boolean) => this.rawModes.push(on),
      }),
      stdinIsTerminal: isTTY,
      stdout: Object.assign(this.stdoutStream, size),
      stderr: Object.assign(stderr, size),
      onSignal: (name, handler) => {
        const handlers = this.#handlers.get(name) ?? new Set();
        this.#handlers.set(name, handlers.add(handler));
        return () => void handlers.delete(handler);
      },
    };
    this.code = main(io);
  }

  get stdout(): string {
    return Buffer.concat(this.#stdout).toString();
  }

  get stderr(): string {
    return Buffer.concat(this.#stderr).toString();
  }

  signal(name: string): void {
    for (const handler of this.#handlers.get(name) ?? []) handler();
  }
}

export type CliResult = { readonly code: number; readonly stdout: string; readonly stderr: string };

/** Runs it to its end. */
export async function runCli(
  api: FakeApi | undefined,
  argv: readonly string[],
  options: CliOptions = {},
): Promise<CliResult> {
  const cli = new CliRun(api, argv, options);
  const code = await cli.code;
  await new Promise((resolve) => setImmediate(resolve));
  return { code, stdout: cli.stdout, stderr: cli.stderr };
}
