/**
 * Saving a VM and loading it again. What a running QEMU gives is one stream with the memory in it; a second QEMU,
 * whose guest never runs, loads it and leaves the memory as a file that others map, and a small rest:
 *
 *   save:    VM ── stream, the vCPUs run for most of it ──▶ FILE.stream
 *   settle:  FILE.stream ──▶ QEMU, its memory is the file ──▶ memory, state
 *   restore: memory (mapped) + state ──▶ VM
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { leaveOutMemory, migrateFromStdin, migrateToFile } from "#drivers/qemu/migration.ts";
import { keepClock } from "#drivers/qemu/kvm-clock.ts";
import { migrationSocket } from "#drivers/qemu/command-line.ts";
import type { QmpMonitor } from "#drivers/qemu/qmp.ts";
import type { SavedState, SaveHooks } from "#drivers/vm-driver.ts";

/** The vCPUs are halted for good when there is less than this left to send: some milliseconds. */
const REST_BYTES = 8 * 1024 * 1024;
/** How much may arrive between two questions how much is left. */
const ASK_EVERY_BYTES = 1024 * 1024;

/** The saved memory before `settle`. */
export function streamPath(saved: SavedState): string {
  return `${saved.memory}.stream`;
}

/** What `settle` lets QEMU write, inside of the folder that it may write to. */
export function draftPath(saveDir: string): string {
  return join(saveDir, "memory");
}

/** See `Snapshotter.save`. */
export async function saveVm(
  monitor: QmpMonitor,
  runDir: string,
  saved: SavedState,
  hooks: SaveHooks,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<void> {
  const ran = (await monitor.send("query-status", undefined, deadlineMs)).running;
  const path = streamPath(saved);
  const halt = once(async () => {
    await hooks.quiesce();
    await monitor.send("stop", undefined, deadlineMs);
  });
  try {
    const socket = migrationSocket(runDir);
    // One that was restored still has it from then.
    await leaveOutMemory(monitor, false, deadlineMs);
    // A VM that stands still already has nothing to wait for.
    if (!ran) await halt();
    let { written } = await migrateToFile(
      monitor,
      { socket, path, onPiece: haltNearTheEnd(monitor, halt, deadlineMs), durable: false },
      deadlineMs,
      signal,
    );
    if (!halt.called) {
      // The rest went faster than we looked: the guest was halted without having been told.
      await written;
      await rm(path);
      await monitor.send("cont", undefined, deadlineMs);
      await halt();
      ({ written } = await migrateToFile(monitor, { socket, path, durable: false }, deadlineMs, signal));
    }
    await hooks.halted();
    if (ran) await monitor.send("cont", undefined, deadlineMs);
    await written;
  } catch (error) {
    await rm(path, { force: true });
    if (ran) await letGoOn(monitor, deadlineMs);
    throw error;
  }
}

/** QEMU waits while we ask, so it cannot come to the end in between, but for what lies in the socket's buffer. */
function haltNearTheEnd(monitor: QmpMonitor, halt: Once, deadlineMs: number) {
  let pieces = 0;
  const everyPieces = ASK_EVERY_BYTES / (64 * 1024);
  return async (): Promise<void> => {
    pieces += 1;
    if (halt.called || pieces % everyPieces !== 0) return;
    const { ram } = await monitor.send("query-migrate", undefined, deadlineMs);
    if (ram !== undefined && ram.remaining < REST_BYTES) await halt();
  };
}

/** A VM that does not go on is worse than what went wrong before; that it does not is seen by its heartbeat. */
async function letGoOn(monitor: QmpMonitor, deadlineMs: number): Promise<void> {
  try {
    await monitor.send("cont", undefined, deadlineMs);
  } catch {
    // It ended, which is why the save has failed.
  }
}

/**
 * For a QEMU that was started with the draft as its memory and the stream as its stdin: loads that and writes the rest.
 * @param loaded is called when it makes nothing more in its run folder
 */
export async function settleVm(
  monitor: QmpMonitor,
  runDir: string,
  saved: SavedState,
  loaded: () => void,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<void> {
  await migrateFromStdin(monitor, deadlineMs, signal);
  loaded();
  await leaveOutMemory(monitor, true, deadlineMs);
  const durable = saved.temporary !== true;
  const to = { socket: migrationSocket(runDir), path: saved.state, durable };
  await (
    await migrateToFile(monitor, to, deadlineMs, signal)
  ).written;
  await keepClock(streamPath(saved), saved.state, durable);
}

/** For a QEMU that maps the memory, and has the rest as its stdin. */
export async function loadVm(monitor: QmpMonitor, deadlineMs: number, signal: AbortSignal): Promise<void> {
  await leaveOutMemory(monitor, true, deadlineMs);
  await migrateFromStdin(monitor, deadlineMs, signal);
}

type Once = (() => Promise<void>) & { readonly called: boolean };

function once(work: () => Promise<void>): Once {
  let called = false;
  const call = async (): Promise<void> => {
    if (called) return;
    called = true;
    await work();
  };
  return Object.defineProperty(call, "called", { get: () => called }) as Once;
}
