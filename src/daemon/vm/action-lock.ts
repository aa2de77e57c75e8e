import { HearthError, invariant } from "#base/error.ts";
import { unlessAborted } from "#base/deadline.ts";

/**
 * The ways to admit an action while another one is under way:
 *
 *  - `refuse`: it fails with `vm.busy`, as a user's start.
 *  - `wait`: it runs afterwards, as the end of a lifetime or of a run.
 *  - `takeOver`: the action under way is aborted with this text as the reason, and waited for until it has undone what
 *    it did. `meanwhile` runs between the two, for what does not listen to a signal. An action that ends the VM anyway
 *    is not aborted.
 */
export type Admission =
  "refuse" | "wait" | { readonly takeOver: string; readonly meanwhile?: (() => Promise<void>) | undefined };

/** Actions that end a VM, sooner than one that takes over from them would. */
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

  /** The number of actions that have begun. */
  get turn(): number {
    return this.#turn;
  }

  /** Resolves when the action that is under way now has ended. */
  get done(): Promise<void> {
    return this.#busy?.done ?? Promise.resolve();
  }

  /**
   * Runs `work` alone. Its signal aborts with `signal`, and when an action takes over.
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
    // Nothing is awaited between the last check and the lock, so no other action comes in between.
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
    throw new HearthError("vm.busy", `${name} is busy: ${this.#busy.action} is in progress.`, {
      hint: "Wait until it has finished; `hearth ls` shows the state of the VM.",
    });
  }

  /** Resolves when no action is under way. */
  async idle(): Promise<void> {
    while (this.#busy !== undefined) await this.#busy.done;
  }

  /** Refuses all further actions, because the VM is removed. */
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
