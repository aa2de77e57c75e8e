/** Limits of the wait for a guest that was asked for memory, or given some back. */
export type BalloonPatience = {
  /** The time without any progress. */
  readonly stuckAfterMs: number;
  /** The time in total. The balloon's target stays set after that, and the guest may still reach it. */
  readonly totalMs: number;
};

/** A guest that gives memory moves some MiB in 5 s, also emulated and on a busy host. */
export const BALLOON_PATIENCE: BalloonPatience = { stuckAfterMs: 5_000, totalMs: 120_000 };

/** Follows a guest towards the size it was asked for. A guest that only goes up and down makes no progress. */
export class BalloonProgress {
  readonly #wantedBytes: number;
  readonly #patience: BalloonPatience;
  readonly #startedAtMs = performance.now();
  #nearestBytes = Infinity;
  #nearestAtMs = this.#startedAtMs;

  constructor(wantedBytes: number, patience: BalloonPatience) {
    this.#wantedBytes = wantedBytes;
    this.#patience = patience;
  }

  /** Takes the guest's present size; returns true while it is worth asking again. */
  isUnderWay(bytes: number): boolean {
    const nowMs = performance.now();
    const distanceBytes = Math.abs(this.#wantedBytes - bytes);
    if (distanceBytes < this.#nearestBytes) {
      this.#nearestBytes = distanceBytes;
      this.#nearestAtMs = nowMs;
    }
    const { stuckAfterMs, totalMs } = this.#patience;
    return (
      distanceBytes > 0 && nowMs - this.#nearestAtMs < stuckAfterMs && nowMs - this.#startedAtMs < totalMs
    );
  }
}
