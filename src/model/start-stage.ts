/**
 * The stages of a start, in their order. `host`: waiting for a turn, and acquiring what the VM needs of the host. `disk`:
 * making its disk. `vmm`: starting the VMM, or having it load the saved memory. `guest`: until the agent answers. `identity`:
 * making the guest this VM. `init`: until the image's own init has started the agent.
 */
export const START_STAGES = ["host", "disk", "vmm", "guest", "identity", "init"] as const;

/** How long one stage took. */
export type StartStage = { readonly stage: (typeof START_STAGES)[number]; readonly tookMs: number };

/** Measures the stages of one start. What is done twice, such as the second try of a boot, adds up. */
export class StageClock {
  readonly #now: () => number;
  readonly #tookMs = new Map<StartStage["stage"], number>();
  #lastMs: number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#lastMs = now();
  }

  /** Ends a stage, which began where the one before it ended. */
  end(stage: StartStage["stage"]): void {
    const nowMs = this.#now();
    this.#tookMs.set(stage, (this.#tookMs.get(stage) ?? 0) + nowMs - this.#lastMs);
    this.#lastMs = nowMs;
  }

  /** Returns the stages that there were, in their order. */
  get stages(): readonly StartStage[] {
    return START_STAGES.flatMap((stage) => {
      const tookMs = this.#tookMs.get(stage);
      return tookMs === undefined ? [] : [{ stage, tookMs: Math.round(tookMs) }];
    });
  }
}
