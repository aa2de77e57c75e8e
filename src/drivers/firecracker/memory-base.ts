/**
 * Keeps the base of a VM's next save: the memory that the VM had when its Firecracker last began to track dirty pages.
 * A save copies the base while the guest still runs, and then writes only the pages that have changed since. Without a
 * base it writes all memory while the vCPUs are paused.
 *
 * Until the first save the base is the guest memory file that the VM maps, which is not removed while it does. Later it
 * is a copy of the last snapshot's memory, because that snapshot may be deleted at any time. A hard link would not do:
 * it changes the file's ctime, by which the file is known to be intact.
 *
 * Each save restarts the tracking, whether it succeeds or not. So the base is removed before Firecracker is asked to
 * save, and made again after a complete save: after a crash in between there is none.
 */
import { chmod, rename, rm, stat, symlink } from "node:fs/promises";
import { join } from "node:path";
import { VM_NAMES } from "#base/file-names.ts";
import { withCleanUp } from "#base/clean-up.ts";
import { syncPath } from "#host/atomic-file.ts";
import { copySparse } from "#host/copy-sparse.ts";

/** The base of one VM, in its state directory. An interrupted call leaves the whole base or none. */
export class MemoryBase {
  readonly #path: string;
  readonly #copy: string;

  constructor(stateDir: string) {
    this.#path = join(stateDir, VM_NAMES.memoryBase);
    this.#copy = join(stateDir, VM_NAMES.memoryBaseCopy);
  }

  /** Removes the base. Idempotent. */
  async remove(): Promise<void> {
    for (const path of [this.#path, this.#copy]) await rm(path, { force: true });
  }

  /** Sets the base of a VM that maps this file. */
  async keepMapped(memory: string): Promise<void> {
    await this.remove();
    await symlink(memory, this.#path);
  }

  /** Sets the base of a VM whose last save made this file. */
  async keepCopy(memory: string, signal: AbortSignal): Promise<void> {
    await this.remove();
    await copySparse(memory, this.#copy, signal);
    await rename(this.#copy, this.#path);
  }

  /**
   * Moves a synced copy of the base to where the VMM writes.
   * @param give makes the VMM the owner of the copy, before it can reach it
   * @returns false where there is no base
   */
  async copyTo(draft: string, give: () => Promise<void>, signal: AbortSignal): Promise<boolean> {
    await rm(this.#copy, { force: true }); // Left by a hearthd that was killed.
    const found = await stat(this.#path).catch(() => undefined); // Without a base everything is written.
    if (found === undefined) return false;
    const place = async (): Promise<true> => {
      // Made where the VMM cannot replace it by a link.
      await copySparse(this.#path, this.#copy, signal);
      await chmod(this.#copy, 0o600);
      await give();
      // Firecracker syncs the file while the vCPUs are paused: then only what it has written itself is left to sync.
      await syncPath(this.#copy);
      await rename(this.#copy, draft);
      return true;
    };
    return withCleanUp(place, () => rm(this.#copy, { force: true }));
  }
}
