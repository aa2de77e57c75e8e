import type { OnProgress, Progress } from "#base/progress.ts";

type Running<T> = {
  readonly result: Promise<T>;
  readonly listeners: Set<OnProgress>;
  readonly controller: AbortController;
  waiting: number;
  last: Progress | undefined;
};

export type Work<T> = (onProgress: OnProgress, signal: AbortSignal) => Promise<T>;

/**
 * Runs work once for concurrent callers. A caller that aborts leaves; the work itself is aborted when the last caller
 * has left.
 */
export class SharedWork<T> {
  readonly #running = new Map<string, Running<T>>();

  /** Joins the work that runs under this key, or starts it. Rejects with the signal's reason when aborted. */
  async join(key: string, work: Work<T>, onProgress: OnProgress, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted();
    const running = this.#running.get(key) ?? this.#start(key, work);
    running.waiting++;
    running.listeners.add(onProgress);
    if (running.last !== undefined) onProgress(running.last);
    const left = Promise.withResolvers<never>();
    const leave = (): void => left.reject(signal.reason);
    signal.addEventListener("abort", leave, { once: true });
    try {
      return await Promise.race([running.result, left.promise]);
    } finally {
      signal.removeEventListener("abort", leave);
      running.listeners.delete(onProgress);
      if (--running.waiting === 0) this.#abandon(key, running, signal.reason);
    }
  }

  #start(key: string, work: Work<T>): Running<T> {
    const controller = new AbortController();
    const listeners = new Set<OnProgress>();
    const report: OnProgress = (progress) => {
      running.last = progress;
      for (const listener of listeners) listener(progress);
    };
    const remove = (): void => {
      if (this.#running.get(key) === running) this.#running.delete(key);
    };
    // Begins in a later turn, when `running` is assigned and can be reported to.
    const result = Promise.resolve().then(() => work(report, controller.signal));
    const running: Running<T> = { result, listeners, controller, waiting: 0, last: undefined };
    this.#running.set(key, running);
    result.then(remove, remove);
    return running;
  }

  /** Aborts the work, unless it has ended. Later callers start new work. */
  #abandon(key: string, running: Running<T>, reason: unknown): void {
    if (this.#running.get(key) === running) this.#running.delete(key);
    running.controller.abort(reason);
  }
}
