import type { Stats } from "node:fs";
import type { Readable, Writable } from "node:stream";

// With an import statement Node would create each name of the module, which for node:fs loads its streams, too: a tenth
// of the time of a short command.
const { fstatSync, readFileSync, readSync, writeSync } = process.getBuiltinModule("node:fs");

export type TerminalIn = Readable & { readonly isTTY?: boolean; setRawMode?(on: boolean): unknown };
export type TerminalOut = Writable & {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
};

/** The environment of a command line. Tests have their own. */
export type Io = {
  /** The arguments without the program's name. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  readonly stdin: TerminalIn;
  readonly stdinIsTerminal: boolean;
  readonly stdout: TerminalOut;
  readonly stderr: TerminalOut;
  /** Makes the terminal print without post-processing in raw mode, so that newlines stay as they are. */
  readonly printAsIs?: () => Promise<void>;
  /** Returns the program's arguments as the kernel has them: Node replaces bytes that are not UTF-8 by U+FFFD. */
  rawArgv?(): readonly Buffer[];
  /** Sets the exit code for output that cannot be written. Default: 1. */
  exitOnFailure?(code: number): void;
  /** Adds a handler. Returns a function that removes it. */
  onSignal(name: NodeJS.Signals, handler: () => void): () => void;
};

/** The exit code of a program that SIGPIPE ended: `hearth logs web | head -1` is not an error. */
const READER_GONE = 141;
const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;
const READ_BYTES = 64 * 1024;
/** Device 1:3 of Linux's admin-guide/devices.txt; a read of it returns at once, as that of a file. */
const NULL_DEVICE = 0x103;

/** The streams in use. Creating one loads the code for its kind, so it is done when needed. */
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

/** Returns the stats of a descriptor; undefined if it is closed, and Node has replaced it by another file. */
function statsOf(fd: number): Stats | undefined {
  try {
    return fstatSync(fd);
  } catch {
    return undefined; // It is closed.
  }
}

/** Writes each chunk completely. Node's own stream for files ignores short writes when a disk becomes full. */
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

/** Ends the program, because its output is lost and a reader must not take a part for the whole. */
function outputFailed(fd: number, error: NodeJS.ErrnoException): never {
  if (error.code === "EPIPE") process.exit(READER_GONE);
  const name = fd === STDOUT ? "stdout" : "stderr";
  try {
    writeSync(STDERR, `error: Cannot write to ${name}: ${error.message}\n`);
  } catch {
    // stderr is closed as well; the exit code reports it.
  }
  process.exit(failureExit);
}

/** Resolves when the output has been passed to the kernel. The process must not end before that. */
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
  // Creating the stream starts reading from a terminal, so only commands that read create it.
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
