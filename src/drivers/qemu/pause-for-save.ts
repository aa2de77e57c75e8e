/**
 * Pauses a guest while QEMU sends its memory. As long as the guest runs, QEMU sends what has changed again, round after
 * round. The vCPUs are paused for the rest when
 *   - little is left,
 *   - as much was sent, or is known to be left, as the save may take of a running guest, or
 *   - the guest has changed its memory again in each of many rounds.
 */
import { unlessAborted, within } from "#base/deadline.ts";
import type { MigrationStatus, QmpMonitor } from "#drivers/qemu/qmp.ts";
import { liveMaxBytes, ROUNDS_MAX } from "#drivers/save-bounds.ts";
import type { SaveHooks } from "#drivers/vm-driver.ts";
import { MIB } from "#base/sizes.ts";

/** An amount that is sent in some milliseconds. */
const LITTLE_BYTES = 8 * MIB;
/**
 * The bytes that may arrive between two calls of `query-migrate`: half of `LITTLE_BYTES`, so that QEMU says that little
 * is left before nothing is left. An answer takes 35 ms where KVM is emulated, and nothing is read meanwhile.
 */
const ASK_EVERY_BYTES = LITTLE_BYTES / 2;
/**
 * The time that QEMU gets to answer while its stream is not read. An unread QEMU waits, so it sends nothing more until
 * the guest is paused. But it may have reached the end of the migration: then it has paused the guest itself, and
 * answers nothing until everything is read. Wait at most this long, or both wait forever.
 */
const UNREAD_MS = 500;
/** The most that is read then: what QEMU sends in a millisecond, and the devices. */
const UNPAUSED_MAX_BYTES = 32 * MIB;

/** Quiesces the guest and pauses its vCPUs, once, however many callers there are. */
export class GuestPause {
  readonly #hooks: Pick<SaveHooks, "quiesce">;
  readonly #stop: () => Promise<void>;
  readonly #signal: AbortSignal;
  #work: Promise<void> | undefined;
  #quiesced = false;
  #abandoned = false;

  constructor(hooks: Pick<SaveHooks, "quiesce">, stop: () => Promise<void>, signal: AbortSignal) {
    this.#hooks = hooks;
    this.#stop = stop;
    this.#signal = signal;
  }

  get begun(): boolean {
    return this.#work !== undefined;
  }

  /** True when what is saved from now on has the guest's processes frozen. */
  get quiesced(): boolean {
    return this.#quiesced;
  }

  /** Pauses the guest, if that has not begun. Resolves when the vCPUs are paused. */
  done(): Promise<void> {
    this.#work ??= this.#run();
    return unlessAborted(this.#work, this.#signal);
  }

  /**
   * Cancels a pause that has not come to the vCPUs yet. Resolves once no request to the guest is in flight; never
   * rejects.
   */
  async abandon(): Promise<void> {
    this.#abandoned = true;
    await this.#work?.catch(() => {}); // The save has failed already, and says why.
  }

  async #run(): Promise<void> {
    await this.#hooks.quiesce();
    this.#quiesced = true;
    if (!this.#abandoned) await this.#stop();
  }
}

/** Returns the function that is to be called after each piece that QEMU has sent, with the number of bytes so far. */
export function pauseInTime(
  monitor: QmpMonitor,
  pause: GuestPause,
  memoryBytes: number,
  deadlineMs: number,
): (bytes: number) => Promise<void> {
  let askAtBytes = MIB; // A guest that uses little memory has sent it all soon after this.
  let begunAtBytes = 0;
  let asked: Promise<MigrationStatus> | undefined;
  /** Returns undefined when QEMU does not answer. */
  const ask = async (): Promise<MigrationStatus | undefined> => {
    asked ??= monitor.send("query-migrate", undefined, deadlineMs);
    const progress = await within(asked, UNREAD_MS);
    if (progress !== undefined) asked = undefined;
    return progress;
  };
  return async (bytes) => {
    if (pause.begun) {
      if (bytes > begunAtBytes + UNPAUSED_MAX_BYTES) await pause.done();
      return;
    }
    if (bytes < askAtBytes) return;
    askAtBytes = bytes + ASK_EVERY_BYTES;
    if (!isTime(bytes, await ask(), memoryBytes)) return;
    begunAtBytes = bytes;
    const paused = pause.done().then(() => true);
    while ((await within(paused, UNREAD_MS)) === undefined) if ((await ask())?.status !== "active") return;
  };
}

/**
 * Tells whether to pause. Pure. `bytes` have really arrived; `progress` is QEMU's claim, and can only make the pause
 * earlier.
 */
function isTime(bytes: number, progress: MigrationStatus | undefined, memoryBytes: number): boolean {
  const maxBytes = liveMaxBytes(memoryBytes);
  if (bytes >= maxBytes) return true;
  const ram = progress?.ram;
  if (ram === undefined) return false;
  const rounds = ram["dirty-sync-count"] ?? 0;
  return ram.remaining < LITTLE_BYTES || bytes + ram.remaining >= maxBytes || rounds > ROUNDS_MAX;
}
