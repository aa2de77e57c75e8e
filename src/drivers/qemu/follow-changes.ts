/**
 * Following what a guest changes while its memory is sent. KVM's log of changes is exact. QEMU's own, of an emulated
 * guest, loses changes when QEMU reads it while a vCPU runs (docs/decisions/0024): it is read when QEMU begins to follow
 * and at the end, with the vCPUs paused both times.
 */
import type { SavingQemu } from "#drivers/qemu/saved-vm.ts";

/** How often QEMU reads its log of a save: when it begins to follow, and at the end. */
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

  /** Pauses an emulated guest, and returns what lets it go on when QEMU follows it. */
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
   * Whether all that the guest has changed was sent, when QEMU is done. A read in between, which some versions may make,
   * was one while the guest ran.
   */
  async isComplete(): Promise<boolean> {
    if (!this.#careful) return true;
    const { monitor, deadlineMs } = this.#qemu;
    const { ram } = await monitor.send("query-migrate", undefined, deadlineMs);
    const reads = ram?.["dirty-sync-count"];
    return reads !== undefined && reads <= READS;
  }

  /** The save has failed: nobody waits for the guest any more. */
  giveUp(error: unknown): void {
    this.#begun.reject(error);
  }
}
