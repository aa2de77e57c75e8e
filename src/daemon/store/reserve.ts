/**
 * Room that hearthd holds on its disk, for the day when there is none: also stopping and removing VMs, which
 * is the fix then, takes lines in the journal. L2.
 */
import { rmSync, statSync, truncateSync, writeFileSync } from "node:fs";

/** A removal takes less than a tenth of this. */
const RESERVE_BYTES = 1024 * 1024;

export class Reserve {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /** Takes the room, if it is there to take. Idempotent. */
  fill(): void {
    try {
      if (this.#sizeBytes() < RESERVE_BYTES)
        writeFileSync(this.#path, Buffer.alloc(RESERVE_BYTES), { mode: 0o600 });
    } catch {
      // Part of a reserve is none. Who needs the disk for something will be told why it cannot be written.
      rmSync(this.#path, { force: true });
    }
  }

  /** Gives the room to whoever writes next. False when it was given away before. */
  release(): boolean {
    if (this.#sizeBytes() === 0) return false;
    truncateSync(this.#path);
    return true;
  }

  #sizeBytes(): number {
    return statSync(this.#path, { throwIfNoEntry: false })?.size ?? 0;
  }
}
