/** How the driver contract saves VMs, restores them, and sees that they run. */
import assert from "node:assert/strict";
import { chownSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { VM_NAMES } from "#base/file-names.ts";
import type { SnapshotFiles, SaveHooks, Snapshotter, VmDriver } from "#drivers/vm-driver.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import { NOT_OFFERED } from "#testing/contract-host.ts";
import type { Check, ContractHost } from "#testing/contract-host.ts";

const never = new AbortController().signal;
const quietly = (): void => {};
const COUNT_DEADLINE_MS = 120_000;
const LOOK_EVERY_MS = 20;

/** So far every guest counts before it is saved: one that was booted anew would begin before that. */
export const COUNTED = 5;

export const NO_HOOKS: SaveHooks = { quiesce: async () => {}, onPaused: async () => {} };

/** No hooks but what a VMM with an own uid needs. */
export function hooksOf({ stateDir, isolation }: VmHandle): SaveHooks {
  const uid = isolation?.uid;
  if (uid === undefined) return NO_HOOKS;
  const giveMemoryBase = async (): Promise<void> =>
    chownSync(join(stateDir, VM_NAMES.memoryBaseCopy), uid, uid);
  return { ...NO_HOOKS, giveMemoryBase };
}

/** A driver that can save VMs, and where it runs. */
export type Saving = {
  readonly driver: VmDriver;
  readonly snapshotter: Snapshotter;
  readonly host: ContractHost;
};

/** Holds a promise against a driver that can save VMs, and only that its features say so against others. */
export function offered(check: (saving: Saving) => Promise<void>): Check {
  return async (host) => {
    const driver = host.makeDriver();
    const { snapshots, snapshotsRefused } = await driver.features(never);
    const { snapshotter } = driver;
    if (snapshots === undefined) {
      const denied = snapshotter === undefined || snapshotsRefused !== undefined;
      assert.ok(denied, "the features say why a part that is there is not to be used");
      return NOT_OFFERED;
    }
    assert.ok(snapshotter, "the feature names a part that is there");
    return check({ driver, snapshotter, host });
  };
}

/** Saves a VM that counts, and ends it: what is returned can be restored. */
export async function saveOne({ driver, snapshotter, host }: Saving): Promise<SnapshotFiles> {
  const source = await bootCounting(driver, host);
  const saved = host.snapshotFiles("one");
  await snapshotter.save(source, saved, hooksOf(source), never);
  await driver.stop(source, "kill", never);
  await snapshotter.finalize(await host.makePlan("count"), saved, never);
  return saved;
}

/** Boots a VM whose guest counts, and waits until it does. */
export async function bootCounting(
  driver: VmDriver,
  host: ContractHost,
  act: "count" | "give" = "count",
): Promise<VmHandle> {
  const handle = await driver.boot(await host.makePlan(act), quietly, never);
  host.act?.(handle, act);
  await counts(host, handle, COUNTED);
  return handle;
}

/** Restores it in a VM of its own, which counts on. */
export async function restore(
  snapshotter: Snapshotter,
  host: ContractHost,
  saved: SnapshotFiles,
): Promise<VmHandle> {
  const handle = await snapshotter.restore(await host.makePlan("count"), saved, quietly, never);
  host.act?.(handle, "count");
  return handle;
}

/** Waits until the VM has counted beyond that, and returns all that it said. */
export async function counts(
  host: ContractHost,
  vm: Pick<VmHandle, "stateDir">,
  beyond: number,
): Promise<readonly number[]> {
  const lateMs = performance.now() + COUNT_DEADLINE_MS;
  for (;;) {
    const said = host.counted(vm);
    if (lastOf(said) > beyond) return said;
    assert.ok(performance.now() < lateMs, `the guest counts beyond ${beyond}`);
    // Nobody is told what a guest writes on its console.
    await sleep(LOOK_EVERY_MS);
  }
}

/** The last number, or 0 where none was said. */
export function lastOf(said: readonly number[]): number {
  return said.at(-1) ?? 0;
}
