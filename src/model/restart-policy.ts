import type { VmState } from "#model/vm-state.ts";

/** When a VM is started again that ended though nobody stopped it: never, when its VMM died, or always. */
export const RESTART_POLICIES = ["no", "on-failure", "always"] as const;

export type RestartPolicy = (typeof RESTART_POLICIES)[number];

/** The first restart comes after this time, each further one after twice as long as the one before. */
const FIRST_MS = 1_000;
const LAST_MS = 60_000;
/** A VM that ran for so long had no trouble with its start. */
export const SETTLED_MS = 60_000;

/** Whether a VM that is in this state, and that nobody stopped, is to be started again. */
export function restarts(policy: RestartPolicy | undefined, state: VmState): boolean {
  if (policy === "on-failure") return state.phase === "failed";
  return policy === "always" && (state.phase === "failed" || state.phase === "stopped");
}

/** The time before a restart, after so many in a row that did not last. */
export function backOffMs(before: number): number {
  return Math.min(FIRST_MS * 2 ** Math.min(before, 30), LAST_MS);
}
