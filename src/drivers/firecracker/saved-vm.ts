/**
 * Saving a VM and loading it again. Firecracker writes both files by itself while the guest's CPUs are halted, into
 * the one folder that it may write to; they become the caller's, and nobody's to change, when the VM goes on:
 *
 *   save:    copy of what it was restored from, quiesce, pause, what has changed into that + saveDir/state, halted,
 *            resume, then moved to `saved`
 *   restore: state loaded, memory mapped; what was loaded is held against the plan before the guest runs
 */
import { constants, statSync } from "node:fs";
import { chmod, copyFile, lstat, open, rename, rm } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { dirname, join } from "node:path";
import { HearthError } from "#base/error.ts";
import type { VmConfig } from "#drivers/firecracker/api/answers.ts";
import type { FirecrackerClient } from "#drivers/firecracker/api/firecracker-client.ts";
import { findFault } from "#drivers/firecracker/api/version-features.ts";
import type { SnapshotCreate } from "#drivers/firecracker/api/snapshot.ts";
import { firecrackerConfig } from "#drivers/firecracker/boot-config.ts";
import { limitDrives } from "#drivers/firecracker/disk-limits.ts";
import type { MemoryBase } from "#drivers/firecracker/memory-base.ts";
import type { BootPlan, SavedState, SaveHooks } from "#drivers/vm-driver.ts";
import { syncPath } from "#host/atomic-file.ts";
import { copySparse } from "#host/copy-sparse.ts";

const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK, COPYFILE_EXCL } = constants;
/** VMMs with other uids are shown the files; from everybody else the folder keeps them. */
const MODE = 0o444;
/** For what must be done although the caller does not wait any more. */
const { signal: never } = new AbortController();

/** See `Snapshotter.save`. */
export async function saveVm(
  client: FirecrackerClient,
  { saveDir, base }: { readonly saveDir: string; readonly base: MemoryBase },
  saved: SavedState,
  hooks: SaveHooks,
  signal: AbortSignal,
): Promise<void> {
  const drafts: SavedState = { memory: join(saveDir, "memory"), state: join(saveDir, "state") };
  try {
    await removeSaved(drafts);
    // A version that writes wrong diffs writes everything instead: that takes longer, and is right.
    const canDiff = findFault(client.version, "diff-snapshot") === undefined;
    const counted = canDiff && (await base.copyTo(drafts.memory, signal));
    await base.forget();
    const type = counted ? "Diff" : "Full";
    const goesOn = await writeHalted(client, { ...drafts, snapshotType: type }, hooks, signal);
    await keep(drafts.memory, saved.memory);
    if (!counted) await leaveOutZeros(saved.memory, signal);
    await keep(drafts.state, saved.state);
    await syncPath(dirname(saved.state));
    signal.throwIfAborted();
    if (counted && goesOn) await base.keepCopy(saved.memory, signal);
  } catch (error) {
    await removeSaved(drafts);
    await removeSaved(saved);
    throw asSnapshotFailure("Firecracker could not save the VM", error);
  }
}

/** The VM stands still for this long, and goes on as it was: running, or halted if false. */
async function writeHalted(
  client: FirecrackerClient,
  { memory, state, snapshotType }: SavedState & Pick<SnapshotCreate, "snapshotType">,
  hooks: SaveHooks,
  signal: AbortSignal,
): Promise<boolean> {
  const ran = (await client.describeInstance(signal)).state === "Running";
  await hooks.quiesce();
  signal.throwIfAborted();
  let failed = true;
  try {
    if (ran) await client.pauseVm(never);
    // Not the caller's signal: Firecracker writes on, and could not be resumed before it is done.
    await client.createSnapshot({ memFilePath: memory, snapshotPath: state, snapshotType }, never);
    signal.throwIfAborted();
    await hooks.halted();
    failed = false;
  } finally {
    // Where it fails after something else has, that one says more; that the VM stands still is seen.
    if (ran) await resumeIfPaused(client, never).catch((error: unknown) => failed || Promise.reject(error));
  }
  return ran;
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
  saved: SavedState,
  signal: AbortSignal,
  trackDirtyPages = false,
): Promise<void> {
  const { metrics } = firecrackerConfig(plan);
  // Neither metrics nor log are part of what is saved.
  if (metrics !== undefined) await client.putMetrics(metrics, signal);
  const memBackend = { backendType: "File", backendPath: saved.memory } as const;
  const load = { snapshotPath: saved.state, memBackend, trackDirtyPages, resumeVm: false };
  await client.loadSnapshot(load, signal);
  checkLoaded(await client.getVmConfig(signal), plan);
  await limitDrives(client, plan.limits ?? {}, signal);
}

/** What was loaded decides; a plan that says otherwise would be believed by everybody else. */
function checkLoaded({ machineConfig, drives = [] }: VmConfig, plan: BootPlan): void {
  const wanted = firecrackerConfig(plan);
  // In no order: which device is which the guest remembers, and each is named after its place.
  const disks = (list: VmConfig["drives"] = []): string =>
    list
      .map(({ driveId, isReadOnly }) => `${driveId}${isReadOnly === true ? " (read-only)" : ""}`)
      .toSorted()
      .join(", ");
  const shapes = [machineConfig, wanted.machineConfig].map(
    (machine) => `${machine?.vcpuCount} CPUs and ${machine?.memSizeMib} MiB`,
  );
  const [was = "", asked = ""] = shapes;
  const problem =
    was === asked
      ? describeDifference("disks", disks(drives), disks(wanted.drives))
      : describeDifference("shape", was, asked);
  if (problem !== undefined) throw new HearthError("snapshot.failed", problem);
}

function describeDifference(what: string, was: string, asked: string): string | undefined {
  return was === asked ? undefined : `The ${what} of what was saved: ${was}; asked for: ${asked}.`;
}

/** A jail could not show what is not there. @throws HearthError `snapshot.failed` */
export function checkThere({ memory, state }: SavedState): void {
  const missing = [memory, state].find((path) => !statSync(path, { throwIfNoEntry: false })?.isFile());
  if (missing !== undefined)
    throw new HearthError("snapshot.failed", `What was saved is not whole: there is no file ${missing}.`);
}

/** With the code that callers of a `Snapshotter` know; a VM that is gone is just that. */
export function asSnapshotFailure(sentence: string, error: unknown): unknown {
  const ofFirecracker = error instanceof HearthError && error.code.startsWith("vmm.");
  return ofFirecracker ? new HearthError("snapshot.failed", sentence, { cause: error }) : error;
}

/**
 * Takes a file out of a folder where the VMM may do what it likes: only what is a file, and the one that was looked
 * at, which the VMM may not open for writing any more.
 */
async function keep(draft: string, path: string): Promise<void> {
  await using file = await open(draft, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  const seen = await file.stat();
  if (!seen.isFile()) throw new HearthError("vmm.failed", `Firecracker left no file at ${draft}.`);
  if (process.geteuid?.() === 0) await file.chown(0, 0);
  await file.chmod(MODE);
  await file.sync();
  try {
    await rename(draft, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EXDEV") throw error;
    return copy(file, draft, path);
  }
  const kept = await lstat(path);
  if (kept.ino !== seen.ino || kept.dev !== seen.dev)
    throw new HearthError("vmm.failed", `Firecracker has exchanged ${draft}.`);
}

/** From the file that is open, whatever its folder shows by now. */
async function copy(from: FileHandle, draft: string, path: string): Promise<void> {
  await copyFile(`/proc/self/fd/${from.fd}`, path, COPYFILE_EXCL);
  await using copied = await open(path, O_RDONLY | O_NOFOLLOW);
  await copied.chmod(MODE);
  await copied.sync();
  await rm(draft);
}

/** A full snapshot has all of the memory in it, of which a guest has seldom used half. */
async function leaveOutZeros(path: string, signal: AbortSignal): Promise<void> {
  const sparse = `${path}.new`;
  try {
    await copySparse(path, sparse, signal);
    await chmod(sparse, MODE);
    await syncPath(sparse);
    await rename(sparse, path);
  } finally {
    await rm(sparse, { force: true });
  }
}

async function removeSaved({ memory, state }: SavedState): Promise<void> {
  for (const path of [memory, state]) await rm(path, { force: true, recursive: true });
}
