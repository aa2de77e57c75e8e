/**
 * The stages of a start, in their order. `host`: waiting for a turn, and acquiring the VM's resources of the host.
 * `disk`: making its disk. `vmm`: starting the VMM, or having it load a snapshot. `guest`: until the agent answers.
 * `identity`: setting the guest identity. `init`: until the image's own init has started the agent.
 */
export const START_STAGES = ["host", "disk", "vmm", "guest", "identity", "init"] as const;

/** The time that one stage took. */
export type StartStage = { readonly stage: (typeof START_STAGES)[number]; readonly tookMs: number };

/** Measures the stages of one start. The times of a repeated stage, such as a second boot, are added. */
export class StageClock {
  readonly #now: () => number;
  readonly #tookMs = new Map<StartStage["stage"], number>();
  #lastMs: number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#lastMs = now();
  }

  /** Ends a stage, which began at the end of the stage before it. */
  end(stage: StartStage["stage"]): void {
    const nowMs = this.#now();
    this.#tookMs.set(stage, (this.#tookMs.get(stage) ?? 0) + nowMs - this.#lastMs);
    this.#lastMs = nowMs;
  }

  /** Returns the measured stages, in their order. */
  get stages(): readonly StartStage[] {
    return START_STAGES.flatMap((stage) => {
      const tookMs = this.#tookMs.get(stage);
      return tookMs === undefined ? [] : [{ stage, tookMs: Math.round(tookMs) }];
    });
  }
}
