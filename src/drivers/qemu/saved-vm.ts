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
import { within } from "#drivers/deadline.ts";
import { leaveOutMemory, migrateFromStdin, migrateToFile } from "#drivers/qemu/migration.ts";
import { keepClock } from "#drivers/qemu/kvm-clock.ts";
import { migrationSocket } from "#drivers/qemu/command-line.ts";
import type { MigrationStatus, QmpMonitor } from "#drivers/qemu/qmp.ts";
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
  const to = { socket: migrationSocket(runDir), path: streamPath(saved), durable: false };
  const halt = new Halt(hooks, async () => void (await monitor.send("stop", undefined, deadlineMs)));
  try {
    // One that was restored still has it from then.
    await leaveOutMemory(monitor, false, deadlineMs);
    // A VM that stands still already has nothing to wait for.
    if (!ran) await halt.done();
    const onPiece = haltNearTheEnd(monitor, halt, deadlineMs);
    let { written } = await migrateToFile(monitor, { ...to, onPiece }, deadlineMs, signal);
    if (!halt.quiesced) {
      // The rest went faster than we looked, or than the guest did as it was told: QEMU has halted it too early.
      await written;
      await rm(to.path);
      await monitor.send("cont", undefined, deadlineMs);
      await halt.done();
      ({ written } = await migrateToFile(monitor, to, deadlineMs, signal));
    }
    await halt.done();
    await hooks.halted();
    if (ran) await monitor.send("cont", undefined, deadlineMs);
    await written;
  } catch (error) {
    await rm(to.path, { force: true });
    const over = halt.giveUp();
    if (ran) await letGoOn(monitor, deadlineMs);
    await over;
    throw error;
  }
}

/**
 * QEMU waits while nobody reads, so it does not come to the end meanwhile. It may be there already: then it halts the
 * guest itself and answers nothing until everything is read. So nobody is waited for longer than this.
 */
const UNREAD_MS = 500;

function haltNearTheEnd(monitor: QmpMonitor, halt: Halt, deadlineMs: number) {
  let pieces = 0;
  const everyPieces = ASK_EVERY_BYTES / (64 * 1024);
  let asked: Promise<MigrationStatus> | undefined;
  return async (): Promise<void> => {
    pieces += 1;
    if (halt.begun || pieces % everyPieces !== 0) return;
    asked ??= monitor.send("query-migrate", undefined, deadlineMs);
    const progress = await within(asked, UNREAD_MS);
    if (progress === undefined) return;
    asked = undefined;
    if (progress.ram !== undefined && progress.ram.remaining < REST_BYTES)
      await within(halt.done(), UNREAD_MS);
  };
}

/** The guest is told, holds its processes, and its vCPUs are halted: once, whoever asks for it. */
class Halt {
  readonly #hooks: SaveHooks;
  readonly #stop: () => Promise<void>;
  #work: Promise<void> | undefined;
  #quiesced = false;
  #givenUp = false;

  constructor(hooks: SaveHooks, stop: () => Promise<void>) {
    this.#hooks = hooks;
    this.#stop = stop;
  }

  get begun(): boolean {
    return this.#work !== undefined;
  }

  /** What was saved after this has the processes held. */
  get quiesced(): boolean {
    return this.#quiesced;
  }

  done(): Promise<void> {
    this.#work ??= this.#run();
    return this.#work;
  }

  /** Halts nothing from now on. Resolves when it tells the guest nothing more; never rejects. */
  async giveUp(): Promise<void> {
    this.#givenUp = true;
    await this.#work?.catch(() => {}); // The save has failed already, and says why.
  }

  async #run(): Promise<void> {
    await this.#hooks.quiesce();
    this.#quiesced = true;
    if (!this.#givenUp) await this.#stop();
  }
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
