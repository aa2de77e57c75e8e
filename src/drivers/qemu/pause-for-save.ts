/**
 * Pausing a guest while QEMU sends its memory. As long as the guest runs, QEMU sends what has changed again, round after
 * round. The vCPUs are paused for the rest when
 *   - little is left,
 *   - as much was sent, or is known to be left, as the save may take of a guest that runs, or
 *   - the guest has changed its memory again in each of many rounds.
 */
import { unlessAborted, within } from "#base/deadline.ts";
import type { MigrationStatus, QmpMonitor } from "#drivers/qemu/qmp.ts";
import { liveMaxBytes, ROUNDS_MAX } from "#drivers/save-bounds.ts";
import type { SaveHooks } from "#drivers/vm-driver.ts";
import { MIB } from "#base/sizes.ts";

/** Sent in some milliseconds. */
const LITTLE_BYTES = 8 * MIB;
/**
 * How much may arrive between two questions how much is left: half of `LITTLE_BYTES`, so that little is seen before
 * nothing is left. An answer takes 35 ms where KVM is emulated, and nothing is read meanwhile.
 */
const ASK_EVERY_BYTES = LITTLE_BYTES / 2;
/**
 * QEMU waits while nobody reads, so it sends no more than before until the guest is paused. It may have come to its own
 * end: then it has paused the guest itself, and answers nothing until everything is read. So it is asked, and read from
 * when it does not answer within this time.
 */
const UNREAD_MS = 500;
/** As much is read then as QEMU may have left at its end: what it sends in a millisecond, and the devices. */
const UNPAUSED_MAX_BYTES = 32 * MIB;

/** Quiesces the guest and pauses its vCPUs: once, whoever asks for it. */
export class GuestPause {
  readonly #hooks: Pick<SaveHooks, "quiesce">;
  readonly #stop: () => Promise<void>;
  readonly #signal: AbortSignal;
  #work: Promise<void> | undefined;
  #quiesced = false;
  #givenUp = false;

  constructor(hooks: Pick<SaveHooks, "quiesce">, stop: () => Promise<void>, signal: AbortSignal) {
    this.#hooks = hooks;
    this.#stop = stop;
    this.#signal = signal;
  }

  get begun(): boolean {
    return this.#work !== undefined;
  }

  /** Whether what is saved from now on has the guest's processes frozen. */
  get quiesced(): boolean {
    return this.#quiesced;
  }

  /** Resolves when the vCPUs are paused. */
  done(): Promise<void> {
    this.#work ??= this.#run();
    return unlessAborted(this.#work, this.#signal);
  }

  /** Pauses nothing from now on. Resolves when it tells the guest nothing more; never rejects. */
  async abandon(): Promise<void> {
    this.#givenUp = true;
    await this.#work?.catch(() => {}); // The save has failed already, and says why.
  }

  async #run(): Promise<void> {
    await this.#hooks.quiesce();
    this.#quiesced = true;
    if (!this.#givenUp) await this.#stop();
  }
}

/** Returns what is to be called with all bytes so far after each piece that QEMU has sent. */
export function pauseInTime(
  monitor: QmpMonitor,
  pause: GuestPause,
  memoryBytes: number,
  deadlineMs: number,
): (bytes: number) => Promise<void> {
  let askAtBytes = MIB; // A guest with little in its memory has sent it all soon after.
  let begunAtBytes = 0;
  let asked: Promise<MigrationStatus> | undefined;
  /** Undefined when QEMU does not answer. */
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

/** Pure. The bytes are what has really come; the rest is QEMU's word, and can only make it earlier. */
function isTime(bytes: number, progress: MigrationStatus | undefined, memoryBytes: number): boolean {
  const maxBytes = liveMaxBytes(memoryBytes);
  if (bytes >= maxBytes) return true;
  const ram = progress?.ram;
  if (ram === undefined) return false;
  const rounds = ram["dirty-sync-count"] ?? 0;
  return ram.remaining < LITTLE_BYTES || bytes + ram.remaining >= maxBytes || rounds > ROUNDS_MAX;
}
