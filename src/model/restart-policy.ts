import type { VmRecord } from "#model/vm.ts";

/** When a VM is started again that ended though nobody stopped it: never, when it failed, or always. */
export const RESTART_POLICIES = ["no", "on-failure", "always"] as const;

export type RestartPolicy = (typeof RESTART_POLICIES)[number];

/** The first restart comes after this time, each further one after twice as long as the one before. */
const FIRST_MS = 1_000;
const LAST_MS = 60_000;
/** A VM that ran for so long had no trouble with its start. */
export const SETTLED_MS = 60_000;

/** What of a VM decides whether it is started again. */
export type Restarted = Pick<VmRecord, "state" | "bound"> & {
  readonly spec: Pick<VmRecord["spec"], "restart" | "autoRemove" | "lifetimeMs">;
};

/** Whether a VM that nobody stopped is to be started again: as its policy says, and after a reboot. */
export function restarts({ spec, state, bound }: Restarted): boolean {
  if (bound) return false;
  if (hasRebooted({ state }) && restartsAfterReboot(spec)) return true;
  if (spec.restart === "on-failure") return state.phase === "failed";
  return spec.restart === "always" && (state.phase === "failed" || state.phase === "stopped");
}

/** Whether the guest has reset its machine, and waits to boot. */
export function hasRebooted({ state }: Pick<Restarted, "state">): boolean {
  return state.phase === "stopped" && state.exit.reason === "rebooted";
}

/**
 * A reboot is no end, whatever the policy is. But a VM that is removed when it ends is removed, and a guest that is not
 * trusted does not get another lifetime by rebooting.
 */
function restartsAfterReboot({ autoRemove, lifetimeMs }: Restarted["spec"]): boolean {
  return !autoRemove && lifetimeMs === undefined;
}

/** The time before a restart, after so many in a row that did not last. */
export function backOffMs(before: number): number {
  return Math.min(FIRST_MS * 2 ** Math.min(before, 30), LAST_MS);
}
