/** How long it is worth waiting for a guest that was asked for memory, or given some back. */
export type BalloonPatience = {
  /** Of a guest that does not come nearer to what it was asked for. */
  readonly stuckAfterMs: number;
  /** Of any guest. The wish stands after that: the guest may still fulfil it. */
  readonly totalMs: number;
};

/** A guest that gives moves some MiB in this time, also emulated and on a busy host. */
export const BALLOON_PATIENCE: BalloonPatience = { stuckAfterMs: 5_000, totalMs: 120_000 };

/** Follows a guest on its way. A guest that only goes up and down comes no nearer, and is not waited for. */
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

  /** Takes what the guest has now; true while it is worth asking again. */
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
