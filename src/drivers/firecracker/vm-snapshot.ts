/**
 * Saving a VM and loading it again. Firecracker writes both files by itself while the guest's CPUs are halted, into
 * the one directory that it may write to; when the VM goes on they are copied to where nobody else can change them:
 *
 *   save:    copy of what it was restored from, quiesce, pause, what has changed into that + saveDir/state, halted,
 *            resume, then copied to `saved`
 *   restore: state loaded, memory mapped; what was loaded is held against the plan before the guest runs
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

/** For what must be done although the caller does not wait any more. */
const { signal: never } = new AbortController();
/** A failed save waits this long for Firecracker to resume the VM; after that it is resumed in the background. */
const RESUME_MS = 10_000;
const RETRY_MS = 200;
/** Firecracker rounds the memory up to what it maps. */
const MEMORY_MARGIN_BYTES = 2 * MIB;

/** A Firecracker whose VM is saved. */
export type SavingFirecracker = {
  readonly client: FirecrackerClient;
  /** Where it may write. */
  readonly saveDir: string;
  readonly base: MemoryBase;
  /** Of the guest at its start. */
  readonly memoryBytes: number;
  /** Whether its process runs. */
  readonly isAlive: () => boolean;
  /** Resolves when nothing is left to do of the last save that failed. */
  readonly late: { until: Promise<unknown> };
  /** Told when something could not be cleaned up in the background. */
  readonly onTrouble: (path: string, error: unknown) => void;
};

/**
 * Saves a VM, see `Snapshotter.save`. It ends by the deadline of its client. A Firecracker that is later goes on writing
 * and answers nothing meanwhile: it is asked until the VM is resumed, and its drafts are removed then.
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
  await noneIsLate(vmm);
  try {
    await removeSaved(drafts);
    // A version that writes wrong diffs writes everything instead: that takes longer, and is right.
    const canDiff = findFault(client.version, "diff-snapshot") === undefined;
    const counted =
      canDiff && (await base.copyTo(drafts.memory, hooks.giveMemoryBase ?? (async () => {}), signal));
    // A full snapshot has all of the memory in it; a diff writes into a file that is there.
    await checkRoom(drafts.memory, counted ? (await stat(drafts.memory)).blocks * 512 : memoryBytes);
    await base.forget();
    const type = counted ? "Diff" : "Full";
    const goesOn = await writePaused(vmm, { ...drafts, snapshotType: type }, hooks, signal, (until) => {
      resumed = until;
    });
    await takeFile(drafts.memory, saved.memory, memoryBytes + MEMORY_MARGIN_BYTES, signal);
    await takeFile(drafts.state, saved.state, stateMaxBytes(), signal);
    await syncPath(dirname(saved.state));
    signal.throwIfAborted();
    if (counted && goesOn) await base.keepCopy(saved.memory, signal);
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

/** @throws HearthError `snapshot.failed` while Firecracker still writes what nobody waits for any more */
async function noneIsLate({ late }: SavingFirecracker): Promise<void> {
  if (
    (await within(
      late.until.then(() => true),
      RESUME_MS,
    )) === true
  )
    return;
  throw new HearthError(
    "snapshot.failed",
    "Cannot save the VM: Firecracker still writes a save that has failed.",
    {
      hint: "Try again later; the VM is resumed when it is done.",
    },
  );
}

/**
 * Saves while the vCPUs are paused, and resumes the VM if it ran before: however this ends, unless the process does.
 * @param resuming is called with what resolves when it was resumed
 * @returns whether it ran before
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
    // Firecracker writes on when nobody waits any more, and cannot be resumed before it is done.
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

/** Asks until Firecracker answers, and resumes a VM that ran; or until the process has ended. Never gives up before. */
async function resumeWhenDone({ client, isAlive }: SavingFirecracker, ran: boolean): Promise<void> {
  while (isAlive()) {
    try {
      await (ran ? resumeIfPaused(client, never) : client.describeInstance(never));
      return;
    } catch (error) {
      // It is busy, or it ends: the next look tells.
      if (!(error instanceof HearthError)) throw error;
    }
    await sleep(RETRY_MS);
  }
}

/**
 * Resumes the VM unless it runs. Firecracker takes a resume of a running VM for one of a paused VM: it interrupts all
 * of its devices, and 1.16.1 loses the vsock by that.
 */
export async function resumeIfPaused(client: FirecrackerClient, signal: AbortSignal): Promise<void> {
  const { state } = await client.describeInstance(signal);
  if (state === "Paused") await client.resumeVm(signal);
}

/**
 * See `Snapshotter.restore`: all but letting it run.
 * @param trackDirtyPages whether Firecracker counts what changes, so that a save may write no more than that
 */
export async function loadVm(
  client: FirecrackerClient,
  plan: BootPlan,
  saved: SnapshotFiles,
  signal: AbortSignal,
  trackDirtyPages = false,
): Promise<void> {
  const { metrics } = firecrackerConfig(plan);
  // Neither metrics nor log are part of what is saved.
  if (metrics !== undefined) await client.putMetrics(metrics, signal);
  const memBackend = { backendType: "File", backendPath: saved.memory } as const;
  const load = { snapshotPath: saved.state, memBackend, trackDirtyPages, resumeVm: false };
  await client.loadSnapshot(load, signal);
  checkLoaded(await client.getVmConfig(signal), firecrackerConfig(plan));
  // One that is only read and has no limit had none when it was saved: the shape of a VM names its limits.
  const disks = plan.disks.filter(({ readOnly, limit }) => !readOnly || limit !== undefined);
  const ids = plan.disks.map(({ id }) => id);
  await limitDrives(client, { disks: ids }, plannedLimits({ ...plan, disks }), signal);
}

/** A jail could not show what is not there. @throws HearthError `snapshot.failed` */
export function checkThere({ memory, state }: SnapshotFiles): void {
  const missing = [memory, state].find((path) => !statSync(path, { throwIfNoEntry: false })?.isFile());
  if (missing !== undefined)
    throw new HearthError("snapshot.failed", `What was saved is not whole: there is no file ${missing}.`);
}

async function removeSaved({ memory, state }: SnapshotFiles): Promise<void> {
  for (const path of [memory, state]) await rm(path, { force: true, recursive: true });
}
