/** Connects a command in a guest to this terminal, or to the pipes in its place. */
import type { Readable } from "node:stream";
import { HearthError } from "#base/error.ts";
import type { TtySize } from "#model/exec-spec.ts";
import { CommandEnd } from "#cli/command-end.ts";
import type { Signalled } from "#cli/command-end.ts";
import { DetachKeys, parseDetachKeys } from "#cli/detach-keys.ts";
import { guestAnswers } from "#cli/guest-answers.ts";
import type { Io } from "#cli/io.ts";
import type { Out } from "#cli/output.ts";
import { TerminalModes } from "#cli/terminal-modes.ts";
import type { GuestExit, GuestProcess } from "#sdk/guest-process.ts";
import type { Hearth } from "#sdk/hearth.ts";

export type Attach = {
  /** Opens the command. `signal` cancels that; `onSent` is called when the request has been sent. */
  readonly open: (signal: AbortSignal, onSent: () => void) => Promise<GuestProcess>;
  readonly tty: boolean;
  /** True if stdin is passed to the command. */
  readonly stdin: boolean;
  readonly timeoutMs?: number | undefined;
  /** The keys that detach from the command, as bytes; by default those of Docker. */
  readonly detachKeys?: Buffer | undefined;
  /** Used to ask whether the command's VM still answers. */
  readonly client: Hearth;
  /** The VM's name, if it is known before the command has started. */
  readonly vmName?: string | undefined;
};

/** The end of a command whose terminal was closed: 128 + SIGHUP. */
const LEFT: GuestExit = { exitCode: 129, timedOut: false };

/**
 * Runs the command on this terminal and returns its exit code. The detach keys end the command like a closed terminal.
 * @throws HearthError the error of hearthd.
 */
export async function attach(attachment: Attach, io: Io, out: Out): Promise<number> {
  const exit = await untilOver(attachment, io, out, async (command) => {
    const raw = attachment.tty && attachment.stdin && io.stdinIsTerminal;
    const undoWindow = attachment.tty ? followWindow(command, io) : undefined;
    const keys = new DetachKeys(raw ? (attachment.detachKeys ?? parseDetachKeys()) : Buffer.alloc(0));
    const modes = new TerminalModes();
    let isEnded = false;
    try {
      if (raw) {
        io.stdin.setRawMode?.(true);
        await io.printAsIs?.();
        command.stdout.on("data", (chunk: Buffer) => modes.see(chunk));
      }
      // The command may end without reading all input. Its stdin is destroyed then, which is not an error.
      command.stdin.on("error", () => undefined);
      if (attachment.stdin && raw) io.stdin.pipe(keys).pipe(command.stdin);
      else if (attachment.stdin) io.stdin.pipe(command.stdin);
      command.stdout.pipe(io.stdout, { end: false });
      command.stderr.pipe(io.stderr, { end: false });
      const over = Promise.all([command.exited, ended(command.stdout), ended(command.stderr)]);
      const result = await Promise.race([over, keys.detached]);
      isEnded = result !== undefined;
      return result?.[0] ?? leave(command);
    } finally {
      undoWindow?.();
      if (raw) io.stdin.setRawMode?.(false);
      // A program that was killed or detached from could not reset them itself.
      if (raw && !isEnded) io.stdout.write(modes.reset());
      if (attachment.stdin) io.stdin.unpipe(raw ? keys : command.stdin).pause();
    }
  });
  if (exit === LEFT) out.note("Detached. The command ends as if its terminal had been closed.");
  return exit.exitCode;
}

function leave(command: GuestProcess): GuestExit {
  command.exited.catch(() => undefined); // Detached: its end is not awaited.
  command.close();
  return LEFT;
}

/** Runs the command and collects its output, for `--json`. */
export async function capture(attachment: Attach, io: Io, out: Out, maxBytes: number): Promise<number> {
  let vm: GuestProcess["vm"];
  let texts = ["", ""];
  const exit = await untilOver(attachment, io, out, async (command) => {
    vm = command.vm;
    if (attachment.stdin) io.stdin.pipe(command.stdin.on("error", () => undefined));
    const [stdout, stderr, result] = await Promise.all([
      collect(command.stdout, maxBytes),
      collect(command.stderr, maxBytes),
      command.exited,
    ]);
    texts = [stdout, stderr];
    if (attachment.stdin) io.stdin.unpipe(command.stdin).pause();
    return result;
  });
  out.json({ ...exit, stdout: texts[0], stderr: texts[1], ...(vm !== undefined && { vm }) });
  return exit.exitCode;
}

/** Runs the command until it has ended or its wait has ended. */
async function untilOver(
  attachment: Attach,
  io: Io,
  out: Out,
  use: (command: GuestProcess) => Promise<GuestExit>,
): Promise<GuestExit> {
  const answers = (command: Signalled, signal: AbortSignal): Promise<boolean> =>
    guestAnswers(attachment.client.vm(command.vm?.name ?? attachment.vmName ?? ""), signal);
  using end = new CommandEnd({ ...attachment, answers }, io, out);
  let inUse: Promise<GuestExit> | undefined;
  const used = (async () => {
    const command = await attachment.open(end.signal, () => openStreams(attachment, io));
    end.started(command);
    out.clearProgress();
    inUse = use(command);
    return await inUse;
  })();
  try {
    return await Promise.race([end.abandoned, used]);
  } finally {
    // Wait until `use` has failed as well, and has reset the terminal.
    if (end.signal.aborted) await Promise.allSettled([inUse]);
    used.catch(() => undefined); // The wait has ended, so the result is not used.
  }
}

/** Creates the streams while the guest starts the command: it takes 5 ms and loads half of the code that exec loads. */
function openStreams({ stdin }: Attach, io: Io): readonly unknown[] {
  return [io.stdout, io.stderr, stdin && io.stdin];
}

/** Returns the size of the window, for a new terminal in the guest. */
export function windowSize(io: Io): TtySize {
  return { rows: io.stdout.rows || 24, cols: io.stdout.columns || 80 };
}

function followWindow(command: GuestProcess, io: Io): () => void {
  const tell = (): void => command.resize(windowSize(io));
  io.stdout.on("resize", tell);
  return () => void io.stdout.removeListener("resize", tell);
}

function ended(stream: Readable): Promise<void> {
  if (stream.readableEnded || stream.destroyed) return Promise.resolve();
  return new Promise((resolve) => stream.once("end", resolve).once("close", resolve));
}

async function collect(stream: Readable, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    bytes += chunk.byteLength;
    if (bytes > maxBytes) {
      throw new HearthError(
        "input.invalid",
        `The command wrote more than ${maxBytes} bytes, the limit of --json.`,
        {
          hint: "Leave out --json, and read the output from a pipe.",
        },
      );
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}
