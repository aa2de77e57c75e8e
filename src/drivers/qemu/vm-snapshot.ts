/**
 * Saving a VM and loading it again. What a running QEMU gives is one stream with the memory in it; a second QEMU,
 * whose guest never runs, loads it and leaves the memory as a file that others map, and a small rest:
 *
 *   save:    VM ── stream, the vCPUs run for most of it; pages of zeros are left out ──▶ FILE.stream
 *   settle:  FILE.stream ──▶ QEMU, its memory is the file ──▶ memory, state
 *   restore: memory (mapped) + state ──▶ VM
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

/** The saved memory before `settle`. */
export function streamPath(saved: SnapshotFiles): string {
  return `${saved.memory}.stream`;
}

/** What `settle` lets QEMU write, inside of the directory that it may write to. */
export function draftPath(saveDir: string): string {
  return join(saveDir, SNAPSHOT_NAMES.memory);
}

/** A QEMU, and what bounds its saves. */
export type SavingQemu = {
  readonly monitor: QmpMonitor;
  readonly runDir: string;
  readonly accel: "kvm" | "tcg";
  /** Of the guest at its start, by somebody who is trusted. */
  readonly memoryBytes: number;
  /** For each command. */
  readonly deadlineMs: number;
  /** For a whole save; by the memory's size if undefined. */
  readonly saveDeadlineMs?: number | undefined;
};

/**
 * Saves a VM, see `Snapshotter.save`:
 *   1. QEMU sends the memory while the guest runs, for a bounded number of bytes.
 *   2. The guest is quiesced and its vCPUs are paused; QEMU sends the rest.
 *   3. `hooks.halted` is called, and the guest goes on.
 * Whatever QEMU and the guest do, it ends within bounds of bytes and of time.
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
    // One that was restored still has it from then.
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
  // QEMU may have paused the guest before that was quiesced: the rest went faster than we looked, or than the guest did
  // as it was told.
  if (quiesced && (await follow.isComplete())) return sent;
  await sent.written();
  await rm(streamPath(saved));
  // QEMU migrates no guest again that was not resumed since its last migration.
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
    `Cannot save the VM: QEMU was not done in ${Math.round(ms / 1_000)} s.`,
    {
      hint: "Look at `hearth logs --vmm NAME`; a slow disk or a busy host may be why.",
    },
  );
}

/** A VM that does not go on is worse than what went wrong before; that it does not is seen by its heartbeat. */
async function resumeGuest(monitor: QmpMonitor, deadlineMs: number): Promise<void> {
  try {
    await monitor.send("cont", undefined, deadlineMs);
  } catch {
    // It ended, which is why the save has failed.
  }
}

/** A QEMU that loads what another one has saved, and what runs its guests. */
export type LoadingQemu = Pick<SavingQemu, "monitor" | "runDir" | "accel" | "memoryBytes" | "deadlineMs">;

/**
 * Verifies what was saved, in a QEMU that was started with the draft as its memory and the stream as its stdin, and
 * whose run directory is sealed: loads the stream and writes the state.
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

/** For a QEMU that maps the memory, and has the rest as its stdin. */
export async function loadVm(monitor: QmpMonitor, deadlineMs: number, signal: AbortSignal): Promise<void> {
  await setIgnoreShared(monitor, true, deadlineMs);
  await migrateFromStdin(monitor, deadlineMs, signal);
}
