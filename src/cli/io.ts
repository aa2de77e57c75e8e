import type { Readable, Writable } from "node:stream";

export type TerminalIn = Readable & { readonly isTTY?: boolean; setRawMode?(on: boolean): unknown };
export type TerminalOut = Writable & {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
};

/** What a command line has of the world; tests bring their own. */
export type Io = {
  /** Without the program's own name. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  readonly stdin: TerminalIn;
  readonly stdinIsTerminal: boolean;
  readonly stdout: TerminalOut;
  readonly stderr: TerminalOut;
  /** In raw mode: what is printed gets to the terminal as it is, newlines too. */
  readonly printAsIs?: () => Promise<void>;
  /** Answers what takes the handler away again. */
  onSignal(name: NodeJS.Signals, handler: () => void): () => void;
};

/** As a program that SIGPIPE ended: `hearth logs web | head -1` is no error. */
const READER_GONE = 141;

/** The streams that were asked for; making one loads what its kind needs, so the others are left alone. */
const opened = new Set<TerminalOut>();

function open(stream: TerminalOut): TerminalOut {
  if (opened.has(stream)) return stream;
  opened.add(stream);
  stream.on("error", (error: NodeJS.ErrnoException) =>
    process.exit(error.code === "EPIPE" ? READER_GONE : 1),
  );
  return stream;
}

/** Resolves when what was printed is on its way to whoever reads it; only then may the process end. */
export async function flushProcessIo(): Promise<void> {
  for (const stream of opened) {
    if (stream.writable) await new Promise((resolve) => stream.write("", resolve));
  }
}

export const PROCESS_IO: Io = {
  argv: process.argv.slice(2),
  env: process.env,
  get cwd() {
    return process.cwd();
  },
  // Making the stream starts to read a terminal's state, so only those who read make it.
  get stdin() {
    return process.stdin;
  },
  get stdinIsTerminal() {
    return process.getBuiltinModule("node:tty").isatty(0);
  },
  get stdout() {
    return open(process.stdout);
  },
  get stderr() {
    return open(process.stderr);
  },
  onSignal(name, handler) {
    process.on(name, handler);
    return () => void process.removeListener(name, handler);
  },
};
