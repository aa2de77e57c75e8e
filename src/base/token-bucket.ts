export type TokenBucketOptions = {
  readonly perS: number;
  /** The number of tokens that can be taken at once after a silence. */
  readonly burst: number;
  /** A monotonic clock in milliseconds. */
  readonly now?: (() => number) | undefined;
};

/** Limits the rate of events that a guest or a client causes, such as log lines that a guest makes its VMM write. */
export class TokenBucket {
  readonly #perS: number;
  readonly #burst: number;
  readonly #now: () => number;
  #tokens: number;
  #filledAtMs: number;

  constructor({ perS, burst, now = () => performance.now() }: TokenBucketOptions) {
    this.#perS = perS;
    this.#burst = burst;
    this.#now = now;
    this.#tokens = burst;
    this.#filledAtMs = now();
  }

  /** Takes a token. Returns false when there is none. */
  take(): boolean {
    const nowMs = this.#now();
    const gained = ((nowMs - this.#filledAtMs) / 1000) * this.#perS;
    this.#tokens = Math.min(this.#burst, this.#tokens + gained);
    this.#filledAtMs = nowMs;
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}
