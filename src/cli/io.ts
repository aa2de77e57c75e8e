import type { Stats } from "node:fs";
import type { Readable, Writable } from "node:stream";

// An import statement has Node make each name of the module, for node:fs its streams too: a tenth of a short command.
const { fstatSync, readFileSync, readSync, writeSync } = process.getBuiltinModule("node:fs");

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
  /** The program's arguments as the kernel has them: Node replaces bytes that are not UTF-8 by U+FFFD. */
  rawArgv?(): readonly Buffer[];
  /** The exit code when output cannot be written; 1 unless told. */
  exitOnFailure?(code: number): void;
  /** Answers what takes the handler away again. */
  onSignal(name: NodeJS.Signals, handler: () => void): () => void;
};

/** As a program that SIGPIPE ended: `hearth logs web | head -1` is no error. */
const READER_GONE = 141;
const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;
const READ_BYTES = 64 * 1024;
/** Device 1:3 of Linux's admin-guide/devices.txt; a read of it returns at once, as that of a file. */
const NULL_DEVICE = 0x103;

/** The streams that were asked for; making one loads what its kind needs, so the others are left alone. */
const opened = new Map<number, TerminalOut>();
let failureExit = 1;

function open(fd: typeof STDOUT | typeof STDERR): TerminalOut {
  const known = opened.get(fd);
  if (known !== undefined) return known;
  const stream = isRegularFile(fd) ? fileOut(fd) : fd === STDOUT ? process.stdout : process.stderr;
  opened.set(fd, stream);
  stream.on("error", (error) => outputFailed(fd, error));
  return stream;
}

let openedStdin: TerminalIn | undefined;

/** Reads a file in order. Node's own stream for files loads all of node:fs/promises and starts four threads: 5 ms. */
function fileIn(fd: number): Readable {
  const { Readable: Stream } = process.getBuiltinModule("node:stream");
  return new Stream({
    highWaterMark: READ_BYTES,
    read() {
      const buffer = Buffer.allocUnsafe(READ_BYTES);
      const bytes = readSync(fd, buffer);
      this.push(bytes === 0 ? null : buffer.subarray(0, bytes));
    },
  });
}

function isRegularFile(fd: number): boolean {
  return statsOf(fd)?.isFile() === true;
}

function isNullDevice(fd: number): boolean {
  const stats = statsOf(fd);
  return stats?.isCharacterDevice() === true && stats.rdev === NULL_DEVICE;
}

/** Undefined for a descriptor that is closed; Node has put something else in its place. */
function statsOf(fd: number): Stats | undefined {
  try {
    return fstatSync(fd);
  } catch {
    return undefined; // As said above.
  }
}

/** Writes all of each chunk: Node's own stream for files takes a part for the whole when a disk becomes full. */
function fileOut(fd: number): Writable {
  const { Writable: Stream } = process.getBuiltinModule("node:stream");
  const write = (chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error) => void): void => {
    try {
      for (let at = 0; at < chunk.byteLength;) at += writeSync(fd, chunk, at);
    } catch (error) {
      return done(error as Error);
    }
    done();
  };
  return new Stream({ write });
}

/** Ends the program: what it says reaches nobody any more, and whoever reads a part must not take it for the whole. */
function outputFailed(fd: number, error: NodeJS.ErrnoException): never {
  if (error.code === "EPIPE") process.exit(READER_GONE);
  const name = fd === STDOUT ? "stdout" : "stderr";
  try {
    writeSync(STDERR, `error: Cannot write to ${name}: ${error.message}\n`);
  } catch {
    // stderr is gone as well; the exit code says it.
  }
  process.exit(failureExit);
}

/** Resolves when what was printed is on its way to whoever reads it; only then may the process end. */
export async function flushProcessIo(): Promise<void> {
  for (const [fd, stream] of opened) {
    if (stream.writable) await new Promise((resolve) => stream.write("", resolve));
    if (stream.errored) outputFailed(fd, stream.errored);
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
    openedStdin ??= isRegularFile(STDIN) || isNullDevice(STDIN) ? fileIn(STDIN) : process.stdin;
    return openedStdin;
  },
  get stdinIsTerminal() {
    return process.getBuiltinModule("node:tty").isatty(0);
  },
  get stdout() {
    return open(STDOUT);
  },
  get stderr() {
    return open(STDERR);
  },
  rawArgv() {
    const raw = readFileSync("/proc/self/cmdline").toString("latin1");
    return raw.split("\0").map((word) => Buffer.from(word, "latin1"));
  },
  exitOnFailure(code) {
    failureExit = code;
  },
  onSignal(name, handler) {
    process.on(name, handler);
    return () => void process.removeListener(name, handler);
  },
};
