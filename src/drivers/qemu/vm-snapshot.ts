/**
 * Saves a VM and loads it again. A running QEMU gives one stream with the memory in it. A second QEMU, whose guest
 * never runs, loads the stream; its memory is the guest memory file, which VMs map, and what it saves in turn is the
 * small VM state file:
 *
 *   1. saveVm:     VM ── stream, while the vCPUs run for most of it; pages of zeros are left out ──▶ FILE.stream
 *   2. finalizeVm: FILE.stream ──▶ QEMU whose memory is a draft of the guest memory file ──▶ memory, state
 *   3. loadVm:     memory (mapped) + state ──▶ VM, with paused vCPUs
 */
import { rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { SNAPSHOT_NAMES } from "#base/file-names.ts";
import { HearthError } from "#base/error.ts";
import { abortAfter } from "#base/deadline.ts";
import { setIgnoreShared, migrateFromStdin, migrateToFile } from "#drivers/qemu/migration.ts";
import type { Destination, Written } from "#drivers/qemu/migration.ts";
import { keepClock } from "#drivers/qemu/kvm-clock.ts";
import { migrationSocket } from "#drivers/qemu/command-line.ts";
import { Following } from "#drivers/qemu/follow-changes.ts";
import { GuestPause, pauseInTime } from "#drivers/qemu/pause-for-save.ts";
import type { QmpMonitor } from "#drivers/qemu/qmp.ts";
import { MEMORY_ID } from "#drivers/qemu/guest-memory.ts";
import { ZeroPages } from "#drivers/qemu/zero-pages.ts";
import { checkRoom, saveDeadlineMs, stateMaxBytes, streamMaxBytes } from "#drivers/save-bounds.ts";
import type { SnapshotFiles, SaveHooks } from "#drivers/vm-driver.ts";

/** Returns the path of the saved stream, from which `finalizeVm` makes the guest memory file. */
export function streamPath(saved: SnapshotFiles): string {
  return `${saved.memory}.stream`;
}

/**
 * Returns the path of the guest memory file that QEMU writes in `finalizeVm`, in the directory that it may write to.
 */
export function draftPath(saveDir: string): string {
  return join(saveDir, SNAPSHOT_NAMES.memory);
}

/** A QEMU whose VM is saved, and the limits of the save. */
export type SavingQemu = {
  readonly monitor: QmpMonitor;
  readonly runDir: string;
  readonly accel: "kvm" | "tcg";
  /** The size of the guest's memory at its start, from a trusted source: not from this QEMU. */
  readonly memoryBytes: number;
  /** The deadline of each command. */
  readonly deadlineMs: number;
  /** The deadline of a whole save; undefined: by the size of the memory. */
  readonly saveDeadlineMs?: number | undefined;
};

/**
 * Saves a VM, see `Snapshotter.save`:
 *   1. QEMU sends the memory while the guest runs, up to a number of bytes.
 *   2. The guest is quiesced and its vCPUs are paused; QEMU sends the rest.
 *   3. `hooks.onPaused` is called, and the vCPUs are resumed.
 * Ends within limits of bytes and of time, whatever QEMU and the guest do.
 * @throws HearthError `host.disk_full`, `snapshot.failed`, `vmm.unresponsive`, and what the hooks throw
 */
export async function saveVm(
  qemu: SavingQemu,
  saved: SnapshotFiles,
  hooks: SaveHooks,
  signal: AbortSignal,
): Promise<void> {
  const ms = qemu.saveDeadlineMs ?? saveDeadlineMs(qemu.memoryBytes);
  using bounded = abortAfter(ms, () => tooLate(ms), signal);
  await saveInTime(qemu, saved, hooks, bounded.signal);
}

async function saveInTime(
  qemu: SavingQemu,
  saved: SnapshotFiles,
  hooks: SaveHooks,
  signal: AbortSignal,
): Promise<void> {
  const { monitor, deadlineMs } = qemu;
  const ran = (await monitor.send("query-status", undefined, deadlineMs)).running;
  const follow = new Following(qemu, ran);
  const quiesce = async (): Promise<void> => {
    await follow.begun;
    await hooks.quiesce();
  };
  const pause = new GuestPause({ quiesce }, () => stopVcpus(qemu), signal);
  try {
    // A restored VM still has this capability set; switch it off.
    await setIgnoreShared(monitor, false, deadlineMs);
    // A VM that is paused already has nothing to wait for.
    if (!ran) await pause.done();
    const sent = await sendMemory(qemu, saved, { pause, follow }, signal);
    await hooks.onPaused();
    if (ran) await monitor.send("cont", undefined, deadlineMs);
    await sent.written();
  } catch (error) {
    await rm(streamPath(saved), { force: true });
    follow.abandon(error);
    const over = pause.abandon();
    if (ran) await resumeGuest(monitor, deadlineMs);
    await over;
    throw error;
  }
}

/** Sends the memory and the devices of one moment to the stream's file. Resolves with the guest quiesced and paused. */
async function sendMemory(
  qemu: SavingQemu,
  saved: SnapshotFiles,
  { pause, follow }: { readonly pause: GuestPause; readonly follow: Following },
  signal: AbortSignal,
): Promise<Written> {
  const { monitor, runDir, memoryBytes, deadlineMs } = qemu;
  const target = (): Destination => ({
    socket: migrationSocket(runDir),
    path: streamPath(saved),
    durable: false,
    maxBytes: streamMaxBytes(memoryBytes),
    checkRoom,
    filter: new ZeroPages(MEMORY_ID, memoryBytes),
  });
  const onFollowed = await follow.begin();
  const guestRuns = (): boolean => !pause.begun;
  const onPiece = pauseInTime(monitor, pause, memoryBytes, deadlineMs);
  const to = { ...target(), onPiece, guestRuns, onFollowed };
  const sent = await migrateToFile(monitor, to, deadlineMs, signal);
  const { quiesced } = pause;
  if (quiesced) await pause.done();
  // QEMU may have paused the guest by itself before it was quiesced: it sent the rest faster than hearthd asked, or
  // than the guest froze its processes.
  if (quiesced && (await follow.isComplete())) return sent;
  await sent.written();
  await rm(streamPath(saved));
  // QEMU does not migrate a guest again that was not resumed since its last migration.
  await monitor.send("cont", undefined, deadlineMs);
  if (quiesced) await stopVcpus(qemu);
  await pause.done();
  return migrateToFile(monitor, target(), deadlineMs, signal);
}

async function stopVcpus({ monitor, deadlineMs }: SavingQemu): Promise<void> {
  await monitor.send("stop", undefined, deadlineMs);
}

function tooLate(ms: number): HearthError {
  return new HearthError(
    "snapshot.failed",
    `Cannot save the VM: QEMU did not finish within ${Math.round(ms / 1_000)} s.`,
    {
      hint: "See `hearth logs --vmm NAME`. A slow disk or a busy host may be the reason.",
    },
  );
}

/**
 * Resumes the vCPUs after a save has failed. A failure is not reported: the error of the save says more, and the
 * heartbeat shows a VM that stays paused.
 */
async function resumeGuest(monitor: QmpMonitor, deadlineMs: number): Promise<void> {
  try {
    await monitor.send("cont", undefined, deadlineMs);
  } catch {
    // QEMU ended, which is why the save has failed.
  }
}

/** A QEMU that loads what another QEMU has saved, and what runs its guests. */
export type LoadingQemu = Pick<SavingQemu, "monitor" | "runDir" | "accel" | "memoryBytes" | "deadlineMs">;

/**
 * Verifies a saved stream, in a QEMU that was started with the draft as its memory and the stream as its stdin, and
 * whose run directory is sealed: loads the stream and writes the VM state file.
 */
export async function finalizeVm(
  qemu: LoadingQemu,
  saved: SnapshotFiles,
  signal: AbortSignal,
): Promise<void> {
  const { monitor, runDir, memoryBytes, deadlineMs, accel } = qemu;
  const ms = saveDeadlineMs(memoryBytes);
  using bounded = abortAfter(ms, () => tooLate(ms), signal);
  // The memory becomes a file beside the stream, and is no larger.
  await checkRoom(saved.memory, (await stat(streamPath(saved))).size);
  await migrateFromStdin(monitor, deadlineMs, bounded.signal);
  await setIgnoreShared(monitor, true, deadlineMs);
  const durable = saved.temporary !== true;
  const to = {
    socket: migrationSocket(runDir),
    path: saved.state,
    durable,
    maxBytes: stateMaxBytes(),
    checkRoom,
  };
  await (await migrateToFile(monitor, to, deadlineMs, bounded.signal)).written();
  await keepClock(streamPath(saved), saved.state, { accel, durable });
}

/** Loads a VM into a QEMU that maps the guest memory file and has the VM state file as its stdin. */
export async function loadVm(monitor: QmpMonitor, deadlineMs: number, signal: AbortSignal): Promise<void> {
  await setIgnoreShared(monitor, true, deadlineMs);
  await migrateFromStdin(monitor, deadlineMs, signal);
}
