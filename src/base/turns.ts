/** Limits how many callers work at once. The others wait in the order of their calls. */
export class Turns {
  #free: number;
  readonly #waiting = new Set<() => void>();

  /** @param atOnce at least 1 */
  constructor(atOnce: number) {
    this.#free = atOnce;
  }

  /**
   * Resolves with a turn, which ends when it is disposed of.
   * @param onWait is called when the caller has to wait, with the number of callers that wait before it
   * @throws the reason of `signal` when that aborts first
   */
  async take(signal: AbortSignal, onWait: (waiting: number) => void = () => {}): Promise<Disposable> {
    signal.throwIfAborted();
    if (this.#free === 0) {
      onWait(this.#waiting.size);
      await this.#wait(signal); // The turn was passed on directly, so #free stays the same.
    } else this.#free -= 1;
    let isOver = false;
    return {
      [Symbol.dispose]: () => {
        if (isOver) return;
        isOver = true;
        this.#passOn();
      },
    };
  }

  async #wait(signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const onAbort = (): void => {
      this.#waiting.delete(resolve);
      reject(signal.reason);
    };
    this.#waiting.add(resolve);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      await promise;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  #passOn(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#free += 1;
      return;
    }
    this.#waiting.delete(next);
    next();
  }
}
