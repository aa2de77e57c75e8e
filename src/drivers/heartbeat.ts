/** Asks a VMM again and again whether it answers, and counts how long it has not. H6. */
export type HeartbeatOptions = {
  readonly everyMs: number;
  /** Rejects when there is no answer. Never overtaken by the next: a slow one is waited for. */
  readonly ask: () => Promise<void>;
  /** For how long it has been silent; 0 when it answers again. */
  readonly onSilent: (silentMs: number) => void;
};

/** Begins with the first question at once. */
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

  /** Asks no more; a question that is on its way stays so. Idempotent. */
  stop(): void {
    clearInterval(this.#timer);
  }

  /** Resolves when no question is on its way. Never rejects. */
  async idle(): Promise<void> {
    await this.#asking;
  }

  #beat(): void {
    this.#asking ??= this.#ask().finally(() => (this.#asking = undefined));
  }

  /** Counted in beats, not by the clock: when hearthd itself was asleep, the VMM was not silent. */
  async #ask(): Promise<void> {
    const { ask, onSilent, everyMs } = this.#options;
    try {
      await ask();
      if (this.#missed > 0) onSilent(0);
      this.#missed = 0;
    } catch {
      // Late, refused or closed: all the same to the listener, who hears how long it lasts.
      this.#missed += 1;
      onSilent(this.#missed * everyMs);
    }
  }
}
