/**
 * Decides when to stop waiting for a command in a guest. Usually the command's own end decides. But a guest that is
 * paused or hangs, or a hearthd that does not answer, must not block the user's shell, a script or `timeout`:
 *
 * 1. A signal goes to the command once it has started. Before that, it cancels the start.
 * 2. After a signal that ends programs, the guest is asked again and again whether it still answers, until the command
 *    has ended. Without an answer the wait ends with 128+n.
 * 3. A third SIGINT or SIGTERM, or a second SIGINT within a second, ends the wait at once.
 * 4. With a time limit, the guest ends the command. If it has not done so in time, the wait ends with 124.
 *
 * Ending the wait closes the connection. hearthd then ends the command as soon as the guest lets it.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { abortAfter, unlessAborted } from "#base/deadline.ts";
import type { GuestExit, GuestProcess } from "#sdk/guest-process.ts";
import type { Io } from "#cli/io.ts";
import type { Out } from "#cli/output.ts";

export type Waits = {
  /** The time for the guest to end a command that has exceeded its time limit, once it has started. */
  readonly endMs: number;
  /** The time before the command starts: building the image, booting, resuming. */
  readonly startMs: number;
  /** The longest time for an answer of the guest. */
  readonly answerMs: number;
  /** The time between an answer and the next question. */
  readonly againMs: number;
};

const WAITS: Waits = { endMs: 10_000, startMs: 120_000, answerMs: 20_000, againMs: 5_000 };

/** The part of a command that is used here. */
export type Signalled = Pick<GuestProcess, "signal" | "vm">;

export type CommandEndOptions = {
  readonly tty: boolean;
  /** The command's own time limit, which the guest enforces. */
  readonly timeoutMs?: number | undefined;
  /** Tells whether the guest still answers. */
  readonly answers: (command: Signalled, signal: AbortSignal) => Promise<boolean>;
  readonly waits?: Waits | undefined;
};

/**
 * The signals that `kill` and a terminal send. KILL and STOP cannot be caught, and the window size has its own message.
 */
const FORWARDED = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"] as const;
const SIGNAL_NUMBERS = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1, SIGQUIT: 3, SIGUSR1: 10, SIGUSR2: 12 } as const;
type Forwarded = (typeof FORWARDED)[number];
/** A second Ctrl-C within this time ends the wait for a command that ignores it. */
const TWICE_MS = 1_000;
const INSISTENT = 3;

/** The watch over one command, from before its start until the command or the wait has ended. */
export class CommandEnd implements Disposable {
  readonly #options: CommandEndOptions;
  readonly #waits: Waits;
  readonly #out: Out;
  readonly #stop = new AbortController();
  readonly #abandoned = Promise.withResolvers<GuestExit>();
  readonly #undo: readonly (() => void)[];
  #command: Signalled | undefined;
  #lastIntMs = -Infinity;
  #insisted = 0;
  #isAsking = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: CommandEndOptions, io: Io, out: Out) {
    this.#options = options;
    this.#waits = options.waits ?? WAITS;
    this.#out = out;
    this.#undo = FORWARDED.map((name) => io.onSignal(name, () => this.#onSignal(name)));
    this.#limit(this.#waits.startMs);
  }

  /** Aborts when the wait has ended. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** Resolves when the wait has ended, with the exit to report. */
  get abandoned(): Promise<GuestExit> {
    return this.#abandoned.promise;
  }

  /** Sends signals to the command from now on. */
  started(command: Signalled): void {
    this.#command = command;
    this.#limit(this.#waits.endMs);
  }

  [Symbol.dispose](): void {
    for (const each of this.#undo) each();
    clearTimeout(this.#timer);
    this.#stop.abort();
  }

  #limit(graceMs: number): void {
    const { timeoutMs } = this.#options;
    clearTimeout(this.#timer);
    if (timeoutMs === undefined) return;
    // Longer timers would fire at once. A command of 24 days is watched by its guest alone.
    const afterMs = timeoutMs + graceMs;
    if (afterMs >= 2 ** 31) return;
    this.#timer = setTimeout(() => {
      this.#abandon({ exitCode: 124, timedOut: true }, "its time is up, and the guest has not ended it");
    }, afterMs);
  }

  #onSignal(name: Forwarded): void {
    const isAgain = name === "SIGINT" && !this.#options.tty && performance.now() - this.#lastIntMs < TWICE_MS;
    if (name === "SIGINT") this.#lastIntMs = performance.now();
    if (name === "SIGINT" || name === "SIGTERM") this.#insisted++;
    const exit = { exitCode: 128 + SIGNAL_NUMBERS[name], timedOut: false };
    if (this.#command === undefined || isAgain || this.#insisted >= INSISTENT) return this.#abandon(exit);
    this.#command.signal(name);
    if (name !== "SIGUSR1" && name !== "SIGUSR2") void this.#askGuest(this.#command, exit);
  }

  async #askGuest(command: Signalled, exit: GuestExit): Promise<void> {
    if (this.#isAsking) return;
    this.#isAsking = true;
    while (!this.signal.aborted) {
      if (!(await this.#answersInTime(command))) return this.#abandon(exit, "its VM does not answer");
      // Aborted when the command has ended.
      await sleep(this.#waits.againMs, undefined, { signal: this.signal }).catch(() => undefined);
    }
  }

  /** A missing answer, from a stopped hearthd, is not waited for either. */
  async #answersInTime(command: Signalled): Promise<boolean> {
    const { answerMs } = this.#waits;
    using inTime = abortAfter(answerMs, () => new Error("There was no answer in time."), this.signal);
    try {
      return await unlessAborted(this.#options.answers(command, inTime.signal), inTime.signal);
    } catch (error) {
      if (inTime.signal.aborted) return false;
      throw error;
    }
  }

  #abandon(exit: GuestExit, why?: string): void {
    if (this.signal.aborted) return;
    if (why !== undefined)
      this.#out.note(
        `Hearth no longer waits for the command: ${why}. The command may still run for a while.`,
      );
    this.#abandoned.resolve(exit);
    this.#stop.abort();
  }
}
