/**
 * The memory that a restored VM had when its Firecracker last began to count which pages change. A save writes no more
 * than what has changed since, into a copy that is made while the guest still runs; without a base it writes everything
 * while the guest stands still.
 *
 * Until the first save that is the file that the VM maps, which nobody removes while it does. Later it is a copy of
 * what was saved last, because that may be removed at any time; not a hard link, which would change the file's times,
 * by which it is known to be whole.
 *
 * Saving begins the count anew, whether it succeeds or not. So the base is gone before Firecracker is asked to, and
 * there again when all was saved: after a crash in between there is none.
 */
import { chmod, rename, rm, stat, symlink } from "node:fs/promises";
import { join } from "node:path";
import { VM_NAMES } from "#base/file-names.ts";
import { withCleanUp } from "#base/clean-up.ts";
import { syncPath } from "#host/atomic-file.ts";
import { copySparse } from "#host/copy-sparse.ts";

export class MemoryBase {
  readonly #path: string;
  readonly #copy: string;

  constructor(stateDir: string) {
    this.#path = join(stateDir, VM_NAMES.memoryBase);
    this.#copy = join(stateDir, VM_NAMES.memoryBaseCopy);
  }

  /** Idempotent. */
  async forget(): Promise<void> {
    for (const path of [this.#path, this.#copy]) await rm(path, { force: true });
  }

  /** Of a VM that maps this. */
  async keepMapped(memory: string): Promise<void> {
    await this.forget();
    await symlink(memory, this.#path);
  }

  /** Of a VM of which this was saved. */
  async keepCopy(memory: string, signal: AbortSignal): Promise<void> {
    await this.forget();
    await copySparse(memory, this.#copy, signal);
    await rename(this.#copy, this.#path);
  }

  /**
   * Moves a copy to where the VMM writes; it is on the disk then.
   * @param give gives the VMM the copy, before it can reach it
   * @returns false where there is no base
   */
  async copyTo(draft: string, give: () => Promise<void>, signal: AbortSignal): Promise<boolean> {
    await rm(this.#copy, { force: true }); // Of a hearthd that died.
    const there = await stat(this.#path).catch(() => undefined); // Then everything is written.
    if (there === undefined) return false;
    const lay = async (): Promise<true> => {
      // Made where the VMM cannot put a link in its place.
      await copySparse(this.#path, this.#copy, signal);
      await chmod(this.#copy, 0o600);
      await give();
      // Firecracker waits for the disk while the guest stands still: for what it has written itself, then.
      await syncPath(this.#copy);
      await rename(this.#copy, draft);
      return true;
    };
    return withCleanUp(lay, () => rm(this.#copy, { force: true }));
  }
}
