/**
 * Following what a guest changes while its memory is sent. KVM's log of changes is exact. QEMU's own, of an emulated
 * guest, loses changes when QEMU reads it while a vCPU runs (docs/decisions/0024): it is read when QEMU begins to follow
 * and at the end, with the vCPUs paused both times.
 */
import type { MigrationStatus } from "#drivers/qemu/qmp.ts";
import type { SavingQemu } from "#drivers/qemu/saved-vm.ts";

/** How often QEMU may have read its log before the end: when it begins to follow. */
const ROUNDS_MAX = 1;

export class Following {
  readonly #qemu: Pick<SavingQemu, "monitor" | "deadlineMs">;
  readonly #careful: boolean;
  readonly #begun = Promise.withResolvers<void>();
  /** What QEMU says right after it has paused the guest. */
  #atPause: Promise<MigrationStatus | undefined> = Promise.resolve(undefined);

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

  /** Pauses the vCPUs for the rest. */
  async stop(): Promise<void> {
    const { monitor, deadlineMs } = this.#qemu;
    await monitor.send("stop", undefined, deadlineMs);
    if (!this.#careful) return;
    // Not waited for: QEMU may answer when all was read from it alone.
    this.#atPause = monitor.send("query-migrate", undefined, deadlineMs).catch(() => undefined);
  }

  /** Whether all that the guest has changed was sent. To be asked when it is paused and the memory was sent. */
  async isComplete(): Promise<boolean> {
    if (!this.#careful) return true;
    const seen = await this.#atPause;
    const rounds = seen?.ram?.["dirty-sync-count"];
    if (rounds === undefined) return false;
    const atTheEnd = seen?.status === "completed" ? 1 : 0; // With the guest paused.
    return rounds - atTheEnd <= ROUNDS_MAX;
  }

  /** The save has failed: nobody waits for the guest any more. */
  giveUp(error: unknown): void {
    this.#begun.reject(error);
  }
}
