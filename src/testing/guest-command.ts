import { constants } from "node:os";
import { HearthError } from "#base/error.ts";
import { abortError } from "#guest/agent-error.ts";
import type { ExecEvent, ExecIo } from "#guest/exec-in-guest.ts";
import type { ExecSpec, TtySize } from "#model/exec-spec.ts";

/** The command, and the name in `/`, that does not end before its caller goes away. */
export const ENDLESS = "endless";

/** As much as a flood prints at once. */
const FLOOD_BYTES = 64 * 1024;

/**
 * A command in a fake guest, with the events that the real agent answers with. It runs until it has read its stdin
 * (`cat`), for ever (`wait`, and `endless`, which prints nothing), or for ever with its stdin full (`deaf`); `echo
 * WORD…`, `complain WORD…`, `flood BYTES` and `size` print something, `exit N` and `kill N` say how they end, and
 * `missing` is not there. Any other command succeeds at once.
 */
export class GuestCommand {
  readonly id: string;
  readonly spec: ExecSpec;
  /** The names of the signals that it has got. */
  readonly signals: string[] = [];
  /** The sizes that its window has had since its start. */
  readonly sizes: TtySize[] = [];
  stdinBytes = 0;
  /** `left`: it could not start, or its caller has gone before its end. */
  state: "runs" | "ended" | "left" = "runs";
  readonly #changed: () => void;
  readonly #signalled = Promise.withResolvers<number>();

  constructor(id: string, spec: ExecSpec, changed: () => void) {
    this.id = id;
    this.spec = spec;
    this.#changed = changed;
  }

  /** Runs it to its end. @throws HearthError `exec.not_found`, and the reason of `signal` */
  async *run(stdin: ExecIo["stdin"], signal: AbortSignal): AsyncGenerator<ExecEvent, void, undefined> {
    const [name = "", ...args] = this.spec.argv;
    let end: GuestCommand["state"] = "left";
    this.#changed();
    try {
      if (name === "missing") throw new HearthError("exec.not_found", `${name}: not found in the VM.`);
      yield { type: "started", pid: 42 };
      yield* this.#print(name, args);
      const ended = this.spec.detach ? undefined : yield* this.#work(name, args, stdin, signal);
      end = "ended";
      const code = ended === undefined ? (name === "exit" ? Number(args[0]) : 0) : 128 + ended;
      yield { type: "exited", code, signal: ended, timedOut: false };
    } finally {
      this.state = end;
      this.#changed();
    }
  }

  signal(number: number): void {
    const [name = ""] = Object.entries(constants.signals).find(([, each]) => each === number) ?? [];
    this.signals.push(name);
    if (this.spec.argv[0] === "wait" && /^SIG(?:INT|TERM|HUP|KILL)$/.test(name))
      this.#signalled.resolve(number);
    this.#changed();
  }

  resize(size: TtySize): void {
    const { rows, cols } = size;
    this.sizes.push({ rows, cols });
    this.#changed();
  }

  *#print(name: string, args: readonly string[]): Generator<ExecEvent> {
    const words = Buffer.from(`${args.join(" ")}\n`);
    if (name === "echo") yield { type: "stdout", bytes: words };
    if (name === "complain") yield { type: "stderr", bytes: words };
    if (name === "wait") yield { type: "stdout", bytes: Buffer.from("waiting\n") };
    if (name === "size") yield { type: "stdout", bytes: Buffer.from(JSON.stringify(this.spec.tty ?? null)) };
    if (name !== "flood") return;
    const chunk = Buffer.alloc(FLOOD_BYTES, "x");
    for (let left = Number(args[0]); left > 0; left -= chunk.length)
      yield { type: "stdout", bytes: chunk.subarray(0, left) };
  }

  /** Answers the signal that ends it. */
  async *#work(
    name: string,
    args: readonly string[],
    stdin: ExecIo["stdin"],
    signal: AbortSignal,
  ): AsyncGenerator<ExecEvent, number | undefined, undefined> {
    if (name === "kill") return Number(args[0]);
    const isDeaf = name === "deaf";
    if ((name === "cat" || isDeaf) && this.spec.stdin && stdin !== undefined)
      for await (const bytes of stdin) {
        signal.throwIfAborted();
        this.stdinBytes += bytes.length;
        this.#changed();
        if (isDeaf) break;
        yield { type: "stdout", bytes };
      }
    signal.throwIfAborted(); // The end of its caller is the end of its stdin, too.
    if (!isDeaf && name !== "wait" && name !== ENDLESS) return undefined;
    return Promise.race([this.#signalled.promise, untilAborted(signal)]);
  }
}

/** Rejects when the signal aborts, as a call of the real agent that nobody answers. */
export function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const leave = (): void => reject(abortError(signal));
    if (signal.aborted) leave();
    else signal.addEventListener("abort", leave, { once: true });
  });
}
