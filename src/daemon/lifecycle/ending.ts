/**
 * Ends hearthd in order:
 *
 *  1. `begin`: no new work is admitted, and each admitted piece of work is aborted with `daemon.stopping`.
 *  2. The API closes its socket, and ends its streams and upgraded connections (`http/api-server.ts`).
 *  3. hearthd's services drain until the work is done or undone, up to a deadline (`service.ts`). Clients whose work is
 *     not done by then are told that it is abandoned.
 *  4. The store is closed, and the lock is released last. VMs keep running.
 *
 * Work that is not done in time stays as after a crash: its journal tells the next hearthd how to continue.
 */
import { HearthError } from "#base/error.ts";

/** An admitted piece of work. */
export type Admitted = Disposable & {
  /** Aborts when hearthd ends, and with the signal that the work was admitted with. */
  readonly signal: AbortSignal;
  /** Rejects with `daemon.stopping` when hearthd ends before this work is over. */
  readonly abandoned: Promise<never>;
};

type Work = { readonly abort: AbortController; readonly abandon: (error: HearthError) => void };

/** Admits work until hearthd ends, and knows which work is under way. */
export class Ending {
  readonly #asked = Promise.withResolvers<string>();
  readonly #admitted = new Set<Work>();
  readonly #work = new Set<Promise<unknown>>();
  #error: HearthError | undefined;

  /** Resolves with the reason when the end begins. */
  get asked(): Promise<string> {
    return this.#asked.promise;
  }

  /** `daemon.stopping` once the end has begun. */
  get error(): HearthError | undefined {
    return this.#error;
  }

  /** Aborts all admitted work, and admits no more. Idempotent. */
  begin(reason: string): void {
    if (this.#error !== undefined) return;
    this.#error = new HearthError("daemon.stopping", "hearthd is stopping.", {
      hint: "VMs keep running. The next command starts hearthd again.",
    });
    this.#asked.resolve(reason);
    for (const { abort } of this.#admitted) abort.abort(this.#error);
  }

  /** Tells the clients of admitted work that the process ends before it. The end has begun. */
  abandon(): void {
    if (this.#error === undefined) return;
    for (const { abandon } of this.#admitted) abandon(this.#error);
  }

  /**
   * Admits work that ends with `outer`. Disposing of it says that the work is over. `AbortSignal.any` would do the
   * same, and keep about a kilobyte for each piece of work as long as hearthd lives.
   * @throws HearthError `daemon.stopping`
   */
  admit(outer: AbortSignal): Admitted {
    if (this.#error !== undefined) throw this.#error;
    const abort = new AbortController();
    const leave = (): void => abort.abort(outer.reason);
    if (outer.aborted) leave();
    else outer.addEventListener("abort", leave, { once: true });
    const abandoned = Promise.withResolvers<never>();
    abandoned.promise.catch(() => undefined); // It need not be awaited.
    const work = { abort, abandon: abandoned.reject };
    this.#admitted.add(work);
    return {
      signal: abort.signal,
      abandoned: abandoned.promise,
      [Symbol.dispose]: () => {
        outer.removeEventListener("abort", leave);
        this.#admitted.delete(work);
      },
    };
  }

  /** Counts `work` as under way until it has ended. */
  track<Result>(work: Promise<Result>): Promise<Result> {
    const remove = (): void => void this.#work.delete(work);
    this.#work.add(work);
    work.then(remove, remove);
    return work;
  }

  /** Resolves when no tracked work is under way. */
  async settled(): Promise<void> {
    while (this.#work.size > 0) await Promise.allSettled(this.#work);
  }

  /** Returns the error for the user: that hearthd stops, where that is why something was cancelled; else `thrown`. */
  explain(thrown: unknown): unknown {
    if (this.#error === undefined || thrown === this.#error || !isCancelled(thrown)) return thrown;
    const { message, hint } = this.#error;
    return new HearthError("daemon.stopping", message, { hint, cause: thrown });
  }
}

/** Tells whether work ended because its signal was aborted. */
export function isCancelled(thrown: unknown): boolean {
  if (thrown instanceof HearthError) return thrown.code === "operation.cancelled";
  return thrown instanceof Error && thrown.name === "AbortError";
}
