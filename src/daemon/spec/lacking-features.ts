/** Refuses what a driver lacks before anything is changed, so that nothing has to be undone. */
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
 * Checks that the driver can pause, where hearthd pauses the VM to save it. A running VM whose memory is saved, and
 * which runs on, needs no pause of hearthd's: its driver pauses the vCPUs itself.
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
  if (pauses) await assertPause(driver, `Cannot save ${name} while it is ${state.phase}`, hint, signal);
}

/** Reads the guest's memory size. Undefined where the driver has no balloon. @throws HearthError `vm.gone` */
export async function readMemoryOf(
  driver: VmDriver,
  handle: VmHandle,
  signal: AbortSignal,
): Promise<GuestMemory | undefined> {
  const { balloon } = await driver.features(signal);
  return balloon ? driver.ballooner?.readMemory(handle, signal) : undefined;
}
