/**
 * The memory that a restored VM had when its Firecracker last began to count which pages change: a hard link in the
 * VM's own folder, where its VMM has no access, to what it was restored from or what was saved of it last. A save
 * writes no more than what has changed since, into a copy that is made while the guest still runs; without a base it
 * writes everything while the guest stands still.
 *
 * Saving begins the count anew, whether it succeeds or not. So the link is gone before Firecracker is asked to, and
 * there again when all was saved: after a crash in between there is none.
 */
import { chmod, chown, link, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { syncPath } from "#host/atomic-file.ts";
import { copySparse } from "#host/copy-sparse.ts";

export class MemoryBase {
  readonly #path: string;
  readonly #copy: string;

  constructor(stateDir: string) {
    this.#path = join(stateDir, "memory.base");
    this.#copy = join(stateDir, "memory.base.copy");
  }

  /** Idempotent. */
  async forget(): Promise<void> {
    for (const path of [this.#path, this.#copy]) await rm(path, { force: true });
  }

  /** From now on what Firecracker counts is what has changed since `memory`. */
  async keep(memory: string): Promise<void> {
    await this.forget();
    try {
      await link(memory, this.#path);
    } catch (error) {
      // On another file system, or where links are not to be had: its saves are whole.
      const { code = "" } = error as NodeJS.ErrnoException;
      if (!["EXDEV", "EPERM", "EMLINK"].includes(code)) throw error;
    }
  }

  /** Moves a copy, on the disk and the VMM's own, to where the VMM writes. False where there is no base. */
  async copyTo(draft: string, signal: AbortSignal): Promise<boolean> {
    await rm(this.#copy, { force: true }); // Of a hearthd that died.
    const there = await stat(this.#path).catch(() => undefined); // Then everything is written.
    if (there === undefined) return false;
    try {
      // Made where the VMM cannot put a link in its place.
      await copySparse(this.#path, this.#copy, signal);
      await chmod(this.#copy, 0o600);
      if (process.geteuid?.() === 0) {
        const { uid, gid } = await stat(dirname(draft));
        await chown(this.#copy, uid, gid);
      }
      // Firecracker waits for the disk while the guest stands still: for what it has written itself, then.
      await syncPath(this.#copy);
      await rename(this.#copy, draft);
      return true;
    } finally {
      await rm(this.#copy, { force: true });
    }
  }
}
