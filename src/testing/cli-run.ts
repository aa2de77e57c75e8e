/** Runs a command line in this process, with streams that the test controls. */
import { PassThrough } from "node:stream";
import type { Io } from "#cli/io.ts";
import { main } from "#cli/main.ts";

/** The hearthd that a command line talks to; of a `ServedDaemon`, say. */
export type CliDaemon = { readonly home: string };

export type CliOptions = {
  /** The content of stdin, which then ends; a stream is used as it is. */
  readonly stdin?: string | PassThrough;
  /** stdin, stdout and stderr are a terminal of this width. */
  readonly terminalColumns?: number;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
};

/** Streams and signals of a command line, held by a test. */
export function testIo(argv: readonly string[], options: CliOptions) {
  const { stdin = "", terminalColumns, env = {}, cwd = process.cwd() } = options;
  const isTTY = terminalColumns !== undefined;
  const input = typeof stdin === "string" ? new PassThrough() : stdin;
  if (typeof stdin === "string") input.end(stdin);
  const size = isTTY ? { isTTY, columns: terminalColumns, rows: 24 } : {};
  const stdout = Object.assign(new PassThrough(), size);
  const stderr = Object.assign(new PassThrough(), size);
  const printed: { readonly stdout: Buffer[]; readonly stderr: Buffer[] } = { stdout: [], stderr: [] };
  stdout.on("data", (chunk: Buffer) => printed.stdout.push(chunk));
  stderr.on("data", (chunk: Buffer) => printed.stderr.push(chunk));
  const rawModes: boolean[] = [];
  const handlers = new Map<string, Set<() => void>>();
  const io: Io = {
    argv,
    env,
    cwd,
    stdin: Object.assign(input, { isTTY, setRawMode: (on: boolean) => rawModes.push(on) }),
    stdinIsTerminal: isTTY,
    stdout,
    stderr,
    onSignal: (name, handler) => {
      const those = handlers.get(name) ?? new Set();
      handlers.set(name, those.add(handler));
      return () => void those.delete(handler);
    },
  };
  return {
    io,
    input,
    stdoutStream: stdout,
    stderrStream: stderr,
    rawModes,
    stdout: () => Buffer.concat(printed.stdout).toString(),
    stderr: () => Buffer.concat(printed.stderr).toString(),
    signal: (name: string) => {
      for (const handler of handlers.get(name) ?? []) handler();
    },
  };
}

/** A command line that runs in this process. */
export class CliRun {
  readonly stdin: PassThrough;
  /** The modes that were set on the terminal: raw or not. */
  readonly rawModes: readonly boolean[];
  readonly code: Promise<number>;
  readonly stdoutStream: PassThrough;
  readonly stderrStream: PassThrough;
  readonly #world: ReturnType<typeof testIo>;

  constructor(daemon: CliDaemon | undefined, argv: readonly string[], options: CliOptions = {}) {
    const env = { ...(daemon && { HEARTH_HOME: daemon.home }), ...options.env };
    this.#world = testIo(argv, { ...options, env });
    this.stdin = this.#world.input;
    this.rawModes = this.#world.rawModes;
    this.stdoutStream = this.#world.stdoutStream;
    this.stderrStream = this.#world.stderrStream;
    this.code = main(this.#world.io);
  }

  get stdout(): string {
    return this.#world.stdout();
  }

  get stderr(): string {
    return this.#world.stderr();
  }

  signal(name: string): void {
    this.#world.signal(name);
  }
}

export type CliResult = { readonly code: number; readonly stdout: string; readonly stderr: string };

/** Runs the command line to its end. */
export async function runCli(
  daemon: CliDaemon | undefined,
  argv: readonly string[],
  options: CliOptions = {},
): Promise<CliResult> {
  const cli = new CliRun(daemon, argv, options);
  const code = await cli.code;
  await new Promise((resolve) => setImmediate(resolve));
  return { code, stdout: cli.stdout, stderr: cli.stderr };
}
