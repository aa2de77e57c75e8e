import type { VmRecord } from "#model/vm.ts";

/** The policies for VMs that end without a stop request: never start them again, after a failure, or always. */
export const RESTART_POLICIES = ["no", "on-failure", "always"] as const;

export type RestartPolicy = (typeof RESTART_POLICIES)[number];

/** The delay before the first restart. Each further delay is twice as long as the one before. */
const FIRST_MS = 1_000;
const LAST_MS = 60_000;
/** A start that lasted for this long counts as a success: the delays begin again with the first. */
export const SETTLED_MS = 60_000;

/** The parts of a VM that decide about a restart. */
export type Restarted = Pick<VmRecord, "state" | "ephemeral"> & {
  readonly spec: Pick<VmRecord["spec"], "restart" | "autoRemove" | "lifetimeMs">;
};

/** Tells whether a VM that ended without a stop request is started again: because of its policy, or after a reboot. */
export function restarts({ spec, state, ephemeral }: Restarted): boolean {
  if (ephemeral) return false;
  if (hasRebooted({ state }) && restartsAfterReboot(spec)) return true;
  if (spec.restart === "on-failure") return state.phase === "failed";
  return spec.restart === "always" && (state.phase === "failed" || state.phase === "stopped");
}

/** Tells whether the guest has reset its machine and waits to boot. */
export function hasRebooted({ state }: Pick<Restarted, "state">): boolean {
  return state.phase === "stopped" && state.exit.reason === "rebooted";
}

/**
 * A guest that reboots is started again under every policy. But a VM that is removed when it ends is removed, and a
 * guest that is not trusted does not get another lifetime by rebooting.
 */
function restartsAfterReboot({ autoRemove, lifetimeMs }: Restarted["spec"]): boolean {
  return !autoRemove && lifetimeMs === undefined;
}

/** Returns the delay before a restart, after `before` restarts in a row that did not last. */
export function backOffMs(before: number): number {
  return Math.min(FIRST_MS * 2 ** Math.min(before, 30), LAST_MS);
}
