import { HearthError, invariant } from "#base/error.ts";
import { unlessAborted } from "#base/deadline.ts";

/**
 * How an action is admitted while another one is under way:
 *
 *  - `refuse`: not at all (`vm.busy`), as a user's start.
 *  - `wait`: after it, as the end of a lifetime or of a run.
 *  - `takeOver`: it is aborted, with that as the reason, and waited for until it has undone what it did. `meanwhile`
 *    is done between the two, for what does not listen to a signal. An action that ends the VM anyway is not aborted.
 */
export type Admission =
  "refuse" | "wait" | { readonly takeOver: string; readonly meanwhile?: (() => Promise<void>) | undefined };

/** These bring a VM to its end, sooner than whatever takes over from them would. */
const FINAL: ReadonlySet<string> = new Set(["kill", "remove"]);

type Busy = { readonly action: string; readonly abort: AbortController; readonly done: Promise<void> };

/** Runs one action on a VM at a time. */
export class ActionLock {
  #busy: Busy | undefined;
  #turn = 0;
  #isClosed = false;

  /** The action under way. */
  get action(): string | undefined {
    return this.#busy?.action;
  }

  get isBusy(): boolean {
    return this.#busy !== undefined;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** How many actions have begun so far. */
  get turn(): number {
    return this.#turn;
  }

  /** Resolves when the action that is under way now has ended. */
  get done(): Promise<void> {
    return this.#busy?.done ?? Promise.resolve();
  }

  /**
   * Runs `work` alone. Its signal aborts with `signal`, and when a stronger action takes over.
   * @param name of the VM, for errors
   * @throws HearthError `vm.busy` for an action that is refused, `vm.not_found` when the VM was removed meanwhile, the
   * reason of `signal` while it waits, and what `work` throws
   */
  async run<Result>(
    action: string,
    name: string,
    admission: Admission,
    signal: AbortSignal,
    work: (signal: AbortSignal) => Promise<Result>,
  ): Promise<Result> {
    // Nothing is awaited between the last look and the lock, so that nobody comes in between.
    while (this.#busy !== undefined) await this.#makeRoom(this.#busy, name, admission, signal);
    if (this.#isClosed) throw new HearthError("vm.not_found", `${name} was removed.`);
    this.#turn += 1;
    const abort = new AbortController();
    const { promise: done, resolve } = Promise.withResolvers<void>();
    this.#busy = { action, abort, done };
    try {
      return await work(AbortSignal.any([signal, abort.signal]));
    } finally {
      this.#busy = undefined;
      resolve();
    }
  }

  /** @throws HearthError `vm.busy` while an action is under way */
  assertFree(name: string): void {
    if (this.#busy === undefined) return;
    throw new HearthError("vm.busy", `${name} is busy: ${this.#busy.action} is under way.`, {
      hint: "Wait until it is done: `hearth ls` shows it.",
    });
  }

  /** Resolves when no action is under way. */
  async idle(): Promise<void> {
    while (this.#busy !== undefined) await this.#busy.done;
  }

  /** The VM is gone: no action may begin any more. */
  close(): void {
    invariant(!this.#isClosed, "a VM is removed once");
    this.#isClosed = true;
  }

  async #makeRoom(busy: Busy, name: string, admission: Admission, signal: AbortSignal): Promise<void> {
    if (admission === "refuse") return this.assertFree(name);
    if (admission !== "wait" && !FINAL.has(busy.action)) {
      busy.abort.abort(new HearthError("operation.taken_over", admission.takeOver));
      await admission.meanwhile?.();
    }
    await unlessAborted(busy.done, signal);
  }
}
