import { isatty } from "node:tty";
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
  /** Answers what takes the handler away again. */
  onSignal(name: NodeJS.Signals, handler: () => void): () => void;
};

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
    return isatty(0);
  },
  get stdout() {
    return process.stdout;
  },
  get stderr() {
    return process.stderr;
  },
  onSignal(name, handler) {
    process.on(name, handler);
    return () => void process.removeListener(name, handler);
  },
};
