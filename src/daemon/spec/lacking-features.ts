/** What hearthd refuses because a driver lacks it. Asked before anything is changed, so that nothing is undone. */
import { HearthError } from "#base/error.ts";
import type { SnapshotOptions } from "#daemon/snapshot/snapshots.ts";
import type { GuestMemory, VmDriver } from "#drivers/vm-driver.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import type { VmRecord } from "#model/vm.ts";

export { OTHER_DRIVER } from "#drivers/can-run.ts";

/**
 * @param cannot what cannot be done, such as "Cannot pause web"
 * @throws HearthError `feature.missing`
 */
export async function assertPause(
  driver: VmDriver,
  cannot: string,
  hint: string,
  signal: AbortSignal,
): Promise<void> {
  if ((await driver.features(signal)).pause) return;
  throw new HearthError("feature.missing", `${cannot}: the driver ${driver.name} cannot pause VMs.`, {
    hint,
  });
}

/**
 * Most ways to save a VM pause it. A VM that runs and goes on with its memory saved does not need that of hearthd: its
 * driver stops the vCPUs itself.
 * @throws HearthError `feature.missing`
 */
export async function assertSaves(
  driver: VmDriver,
  { name, state }: VmRecord,
  { kind, diskOnly = false }: Pick<SnapshotOptions, "kind" | "diskOnly">,
  signal: AbortSignal,
): Promise<void> {
  const hint = `Stop it first: hearth stop ${name}`;
  if (kind === "suspended") return assertPause(driver, `Cannot suspend ${name}`, hint, signal);
  const pauses = (state.phase === "running" && diskOnly) || (state.phase === "paused" && !diskOnly);
  if (pauses) await assertPause(driver, `Cannot save ${name}, which is ${state.phase}`, hint, signal);
}

/** Undefined where the guest's memory cannot be asked for. @throws HearthError `vm.gone` */
export async function readMemoryOf(
  driver: VmDriver,
  handle: VmHandle,
  signal: AbortSignal,
): Promise<GuestMemory | undefined> {
  const { balloon } = await driver.features(signal);
  return balloon ? driver.ballooner?.readMemory(handle, signal) : undefined;
}
