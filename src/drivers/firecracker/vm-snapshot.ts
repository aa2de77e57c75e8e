/**
 * Saves a VM and loads it again.
 *
 * Save (`saveVm`): Firecracker writes both files while the vCPUs are paused, into the one directory that it may write
 * to. They are copied from there, so that this VMM cannot change them later.
 *   1. copy the base, which is the memory of the last save or restore, into the draft; no base: a full save
 *   2. quiesce the guest, and pause the vCPUs
 *   3. have Firecracker write the memory (with a base only its changes) and the VM state file
 *   4. call `hooks.onPaused`, and resume the vCPUs
 *   5. copy both files to their places, and keep a copy of the memory as the next base
 *
 * Restore (`loadVm`): Firecracker loads the VM state file and maps the guest memory file; what it has loaded is
 * compared with the plan before the guest runs.
 */
import { statSync } from "node:fs";
import { rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { SNAPSHOT_NAMES } from "#base/file-names.ts";
import { HearthError } from "#base/error.ts";
import { MIB } from "#base/sizes.ts";
import { unlessAborted, within } from "#base/deadline.ts";
import type { FirecrackerClient } from "#drivers/firecracker/api/firecracker-client.ts";
import { findFault } from "#drivers/firecracker/api/version-features.ts";
import type { SnapshotCreate } from "#drivers/firecracker/api/snapshot.ts";
import { plannedLimits } from "#drivers/device-limits.ts";
import { firecrackerConfig } from "#drivers/firecracker/boot-config.ts";
import { limitDrives } from "#drivers/firecracker/disk-limits.ts";
import { checkLoaded } from "#drivers/firecracker/loaded-config.ts";
import type { MemoryBase } from "#drivers/firecracker/memory-base.ts";
import { takeFile } from "#drivers/firecracker/take-file.ts";
import { checkRoom, stateMaxBytes } from "#drivers/save-bounds.ts";
import { asSnapshotFailure } from "#drivers/snapshot-failure.ts";
import type { BootPlan, SnapshotFiles, SaveHooks } from "#drivers/vm-driver.ts";
import { syncPath } from "#host/atomic-file.ts";

/** The signal of work that is done even if the caller does not wait any longer. */
const { signal: never } = new AbortController();
/** The time that a failed save waits for Firecracker to resume the VM; after it the VM is resumed in the background. */
const RESUME_MS = 10_000;
const RETRY_MS = 200;
/** Firecracker rounds the memory up to what it maps. */
const MEMORY_MARGIN_BYTES = 2 * MIB;

/** A Firecracker whose VM is saved. */
export type SavingFirecracker = {
  readonly client: FirecrackerClient;
  /** The directory that Firecracker may write to. */
  readonly saveDir: string;
  readonly base: MemoryBase;
  /** The size of the guest's memory at its start. */
  readonly memoryBytes: number;
  /** Tells whether the process runs. */
  readonly isAlive: () => boolean;
  /** Resolves when a failed save has nothing left to do in the background. */
  readonly late: { until: Promise<unknown> };
  /** Called with what could not be cleaned up in the background. */
  readonly onTrouble: (path: string, error: unknown) => void;
};

/**
 * Saves a VM, see `Snapshotter.save`. Ends by the deadline of the client. After it, Firecracker may still write, and
 * answers nothing meanwhile: it is asked until it can resume the VM, and then the drafts are removed.
 */
export async function saveVm(
  vmm: SavingFirecracker,
  saved: SnapshotFiles,
  hooks: SaveHooks,
  signal: AbortSignal,
): Promise<void> {
  const { client, saveDir, base, memoryBytes } = vmm;
  const drafts: SnapshotFiles = {
    memory: join(saveDir, SNAPSHOT_NAMES.memory),
    state: join(saveDir, SNAPSHOT_NAMES.state),
  };
  /** Resolves when Firecracker writes nothing any more. */
  let resumed: Promise<unknown> = Promise.resolve();
  await awaitLateSave(vmm);
  try {
    await removeSaved(drafts);
    // A version that writes wrong diffs writes everything instead: that takes longer, and is right.
    const canDiff = findFault(client.version, "diff-snapshot") === undefined;
    const hasBase =
      canDiff && (await base.copyTo(drafts.memory, hooks.giveMemoryBase ?? (async () => {}), signal));
    // A full snapshot has all of the memory in it; a diff writes into an existing file.
    await checkRoom(drafts.memory, hasBase ? (await stat(drafts.memory)).blocks * 512 : memoryBytes);
    await base.remove();
    const type = hasBase ? "Diff" : "Full";
    const ran = await writePaused(vmm, { ...drafts, snapshotType: type }, hooks, signal, (until) => {
      resumed = until;
    });
    await takeFile(drafts.memory, saved.memory, memoryBytes + MEMORY_MARGIN_BYTES, signal);
    await takeFile(drafts.state, saved.state, stateMaxBytes(), signal);
    await syncPath(dirname(saved.state));
    signal.throwIfAborted();
    if (hasBase && ran) await base.keepCopy(saved.memory, signal);
  } catch (error) {
    await removeSaved(saved);
    const cleaned = resumed
      .then(() => removeSaved(drafts))
      .catch((trouble: unknown) => vmm.onTrouble(saveDir, trouble));
    vmm.late.until = cleaned;
    await within(cleaned, RESUME_MS);
    throw asSnapshotFailure("Firecracker could not save the VM", error);
  }
}

/**
 * Waits for the background work of an earlier save.
 * @throws HearthError `snapshot.failed` while Firecracker still writes that save
 */
async function awaitLateSave({ late }: SavingFirecracker): Promise<void> {
  if (
    (await within(
      late.until.then(() => true),
      RESUME_MS,
    )) === true
  )
    return;
  throw new HearthError(
    "snapshot.failed",
    "Cannot save the VM: Firecracker is still writing a save that has failed.",
    {
      hint: "Try again later; the VM is resumed when it is done.",
    },
  );
}

/**
 * Saves while the vCPUs are paused. Resumes a VM that ran before, also on failure, unless the process has ended.
 * @param resuming called with a promise that resolves when the VM was resumed
 * @returns true if the VM ran before
 */
async function writePaused(
  vmm: SavingFirecracker,
  { memory, state, snapshotType }: SnapshotFiles & Pick<SnapshotCreate, "snapshotType">,
  hooks: SaveHooks,
  signal: AbortSignal,
  resuming: (until: Promise<unknown>) => void,
): Promise<boolean> {
  const { client } = vmm;
  const ran = (await client.describeInstance(signal)).state === "Running";
  await hooks.quiesce();
  signal.throwIfAborted();
  try {
    if (ran) await client.pauseVm(never);
    const create = { memFilePath: memory, snapshotPath: state, snapshotType };
    // Firecracker continues to write when the caller stops waiting, and cannot resume the VM before it is done.
    await unlessAborted(client.createSnapshot(create, never), signal);
    await hooks.onPaused();
    signal.throwIfAborted();
  } catch (error) {
    resuming(resumeWhenDone(vmm, ran));
    throw error;
  }
  if (ran) {
    const resumed = resumeWhenDone(vmm, true);
    resuming(resumed);
    await unlessAborted(resumed, signal);
  }
  return ran;
}

/** Asks until Firecracker answers, and resumes a VM that ran; ends only with that, or with the process. */
async function resumeWhenDone({ client, isAlive }: SavingFirecracker, ran: boolean): Promise<void> {
  while (isAlive()) {
    try {
      await (ran ? resumeIfPaused(client, never) : client.describeInstance(never));
      return;
    } catch (error) {
      // Firecracker is busy, or ends: the next try tells.
      if (!(error instanceof HearthError)) throw error;
    }
    await sleep(RETRY_MS);
  }
}

/**
 * Resumes the VM unless it runs. Firecracker resumes a running VM as if it were paused: it interrupts all of its
 * devices, and 1.16.1 loses the vsock by that.
 */
export async function resumeIfPaused(client: FirecrackerClient, signal: AbortSignal): Promise<void> {
  const { state } = await client.describeInstance(signal);
  if (state === "Paused") await client.resumeVm(signal);
}

/**
 * Does all of `Snapshotter.restore` but resuming the vCPUs.
 * @param trackDirtyPages true when Firecracker is to track changed pages, so that a later save writes only those
 */
export async function loadVm(
  client: FirecrackerClient,
  plan: BootPlan,
  saved: SnapshotFiles,
  signal: AbortSignal,
  trackDirtyPages = false,
): Promise<void> {
  const { metrics } = firecrackerConfig(plan);
  // Metrics and log are not part of a snapshot.
  if (metrics !== undefined) await client.putMetrics(metrics, signal);
  const memBackend = { backendType: "File", backendPath: saved.memory } as const;
  const load = { snapshotPath: saved.state, memBackend, trackDirtyPages, resumeVm: false };
  await client.loadSnapshot(load, signal);
  checkLoaded(await client.getVmConfig(signal), firecrackerConfig(plan));
  // A read-only disk without a limit had none when it was saved: the compatibility key includes limits.
  const disks = plan.disks.filter(({ readOnly, limit }) => !readOnly || limit !== undefined);
  const ids = plan.disks.map(({ id }) => id);
  await limitDrives(client, { disks: ids }, plannedLimits({ ...plan, disks }), signal);
}

/** Checks that both files exist: a jail could not show them otherwise. @throws HearthError `snapshot.failed` */
export function checkFilesExist({ memory, state }: SnapshotFiles): void {
  const missing = [memory, state].find((path) => !statSync(path, { throwIfNoEntry: false })?.isFile());
  if (missing !== undefined)
    throw new HearthError("snapshot.failed", `The snapshot is incomplete: ${missing} is missing.`);
}

async function removeSaved({ memory, state }: SnapshotFiles): Promise<void> {
  for (const path of [memory, state]) await rm(path, { force: true, recursive: true });
}
