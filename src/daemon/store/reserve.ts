/**
 * Keeps space on the disk for when it is full: stopping and removing VMs, which is the fix then, has to write to the
 * journal, too.
 */
import { rmSync, statSync, truncateSync, writeFileSync } from "node:fs";

/** Measured: a removal takes less than a tenth of this. */
const RESERVE_BYTES = 1024 * 1024;

export class Reserve {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /** Reserves the space, if it is free. Idempotent. */
  fill(): void {
    try {
      if (this.#sizeBytes() < RESERVE_BYTES)
        writeFileSync(this.#path, Buffer.alloc(RESERVE_BYTES), { mode: 0o600 });
    } catch {
      // Part of a reserve is useless. Whatever needs the disk reports why it cannot be written.
      rmSync(this.#path, { force: true });
    }
  }

  /** Frees the space for the next write. Returns false when it was freed before. */
  release(): boolean {
    if (this.#sizeBytes() === 0) return false;
    truncateSync(this.#path);
    return true;
  }

  #sizeBytes(): number {
    return statSync(this.#path, { throwIfNoEntry: false })?.size ?? 0;
  }
}
