/**
 * Follows what a guest changes while its memory is sent. KVM's log of changes is exact. QEMU's own, of an emulated
 * guest, loses changes when QEMU reads it while a vCPU runs (docs/decisions/0024): it is read when QEMU begins to follow
 * and at the end, with the vCPUs paused both times.
 */
import type { SavingQemu } from "#drivers/qemu/vm-snapshot.ts";

/** QEMU reads its log twice in a save: when it begins to follow, and at the end. */
const READS = 2;

export class Following {
  readonly #qemu: Pick<SavingQemu, "monitor" | "deadlineMs">;
  readonly #careful: boolean;
  readonly #begun = Promise.withResolvers<void>();

  /** @param ran whether the guest runs, so that there is something to follow */
  constructor({ monitor, accel, deadlineMs }: SavingQemu, ran: boolean) {
    this.#qemu = { monitor, deadlineMs };
    this.#careful = ran && accel === "tcg";
    this.#begun.promise.catch(() => {}); // Who waits for it is told.
    if (!this.#careful) this.#begun.resolve();
  }

  /** Resolves when the guest runs and is followed: it can be quiesced. */
  get begun(): Promise<void> {
    return this.#begun.promise;
  }

  /** Pauses an emulated guest. Returns the function that resumes it, for when QEMU follows it. */
  async begin(): Promise<(() => Promise<void>) | undefined> {
    if (!this.#careful) return undefined;
    const { monitor, deadlineMs } = this.#qemu;
    await monitor.send("stop", undefined, deadlineMs);
    return async () => {
      await monitor.send("cont", undefined, deadlineMs);
      this.#begun.resolve();
    };
  }

  /**
   * Tells, when QEMU is done, whether all that the guest has changed was sent. It was not if QEMU has read its log in
   * between, while the guest ran.
   */
  async isComplete(): Promise<boolean> {
    if (!this.#careful) return true;
    const { monitor, deadlineMs } = this.#qemu;
    const { ram } = await monitor.send("query-migrate", undefined, deadlineMs);
    const reads = ram?.["dirty-sync-count"];
    return reads !== undefined && reads <= READS;
  }

  /** Rejects `begun`, because the save has failed. */
  abandon(error: unknown): void {
    this.#begun.reject(error);
  }
}
