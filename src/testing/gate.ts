/** Holds up one piece of work until the test has seen that it is there. */
export class Gate {
  /** Resolves when the work has come to it. */
  readonly reached: Promise<void>;
  readonly #reach: () => void;
  readonly #opened: Promise<void>;
  readonly #open: () => void;

  constructor() {
    const reached = Promise.withResolvers<void>();
    const opened = Promise.withResolvers<void>();
    this.reached = reached.promise;
    this.#reach = reached.resolve;
    this.#opened = opened.promise;
    this.#open = opened.resolve;
  }

  open(): void {
    this.#open();
  }

  /** For the work. @throws the signal's reason */
  async pass(signal: AbortSignal): Promise<void> {
    this.#reach();
    const aborted = Promise.withResolvers<never>();
    const leave = (): void => aborted.reject(signal.reason);
    signal.addEventListener("abort", leave, { once: true });
    try {
      signal.throwIfAborted();
      await Promise.race([this.#opened, aborted.promise]);
    } finally {
      signal.removeEventListener("abort", leave);
    }
  }
}
