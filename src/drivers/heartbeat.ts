export type HeartbeatOptions = {
  readonly everyMs: number;
  /** Rejects when there is no answer. Requests never overlap: a slow one delays the next. */
  readonly ask: () => Promise<void>;
  /** Called with the time since the last answer; with 0 when the VMM answers again. */
  readonly onSilent: (silentMs: number) => void;
};

/** Asks a VMM again and again whether it answers, from the construction on, and counts how long it has not. */
export class Heartbeat {
  readonly #options: HeartbeatOptions;
  readonly #timer: NodeJS.Timeout;
  #asking: Promise<void> | undefined;
  #missed = 0;

  constructor(options: HeartbeatOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#beat(), options.everyMs).unref();
    this.#beat();
  }

  /** Sends no more requests; one that is outstanding continues. Idempotent. */
  stop(): void {
    clearInterval(this.#timer);
  }

  /** Resolves when no request is outstanding. Never rejects. */
  async idle(): Promise<void> {
    await this.#asking;
  }

  #beat(): void {
    this.#asking ??= this.#ask().finally(() => (this.#asking = undefined));
  }

  /** Measures silence in missed beats, not by the clock: when hearthd itself did not run, the VMM was not silent. */
  async #ask(): Promise<void> {
    const { ask, onSilent, everyMs } = this.#options;
    try {
      await ask();
      if (this.#missed > 0) onSilent(0);
      this.#missed = 0;
    } catch {
      // A late, refused or closed request: the listener only hears how long it lasts.
      this.#missed += 1;
      onSilent(this.#missed * everyMs);
    }
  }
}
