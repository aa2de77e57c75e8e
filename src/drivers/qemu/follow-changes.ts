/**
 * Follows what a guest changes while its memory is sent. KVM's dirty log is exact. QEMU's own log, of an emulated
 * guest, loses changes when QEMU reads it while a vCPU runs (docs/decisions/0024). So it is read twice, with the vCPUs
 * paused both times: when QEMU begins to follow, and at the end.
 */
import type { SavingQemu } from "#drivers/qemu/vm-snapshot.ts";

/** The number of times that QEMU reads its log in such a save. */
const READS = 2;

/** Follows the changes of one save: `begin`, the migration, then `isComplete`; or `abandon`. */
export class Following {
  readonly #qemu: Pick<SavingQemu, "monitor" | "deadlineMs">;
  readonly #careful: boolean;
  readonly #begun = Promise.withResolvers<void>();

  /** @param ran true when the guest runs, so that there are changes to follow */
  constructor({ monitor, accel, deadlineMs }: SavingQemu, ran: boolean) {
    this.#qemu = { monitor, deadlineMs };
    this.#careful = ran && accel === "tcg";
    this.#begun.promise.catch(() => {}); // The caller that waits for it gets the error.
    if (!this.#careful) this.#begun.resolve();
  }

  /** Resolves when the guest runs and its changes are followed: it can be quiesced. */
  get begun(): Promise<void> {
    return this.#begun.promise;
  }

  /** Pauses an emulated guest. Returns the function that resumes it, to be called when QEMU follows changes. */
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
   * Tells, when QEMU is done, whether all changes of the guest were sent. They were not if QEMU has read its log more
   * often, which is while the guest ran.
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
