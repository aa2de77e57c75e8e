/** Files that others fill and we bound: what they write never takes more than twice the limit on disk. */
import {
  closeSync,
  fstatSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeSync,
} from "node:fs";
import { invariant } from "#base/error.ts";

/**
 * Appends. When the file would grow over `maxBytes` it becomes `PATH.1`, in place of the older one. Writes
 * are synchronous: a writer that is faster than the disk waits, and nothing piles up in memory. H2.
 */
export class BoundedFile implements Disposable {
  readonly path: string;
  readonly #maxBytes: number;
  #fd: number | undefined;
  #sizeBytes: number;
  /** Of the file beside, which the next rotation drops. */
  #olderBytes: number;
  #droppedBytes = 0;
  #closed = false;

  /** Created with mode 0600 when missing; otherwise goes on at its end. */
  constructor(path: string, maxBytes: number) {
    this.path = path;
    this.#maxBytes = maxBytes;
    this.#fd = openSync(path, "a", 0o600);
    this.#sizeBytes = fstatSync(this.#fd).size;
    this.#olderBytes = sizeOf(`${path}.1`);
  }

  /** What was written and is not on disk any more, since this object was made. */
  get droppedBytes(): number {
    return this.#droppedBytes;
  }

  append(chunk: Uint8Array): void {
    let rest = chunk;
    while (rest.length > 0) {
      if (this.#sizeBytes >= this.#maxBytes) this.#rotate();
      const part = rest.subarray(0, this.#maxBytes - this.#sizeBytes);
      const written = writeSync(this.#open(), part);
      this.#sizeBytes += written;
      rest = rest.subarray(written);
    }
  }

  /** Idempotent. */
  [Symbol.dispose](): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
    this.#closed = true;
  }

  /** Again, when a rotation could not make the new file: the disk may have room by now. */
  #open(): number {
    invariant(!this.#closed, `nothing is appended to ${this.path} after it was closed`);
    this.#fd ??= openSync(this.path, "a", 0o600);
    return this.#fd;
  }

  #rotate(): void {
    closeSync(this.#open());
    this.#fd = undefined;
    renameSync(this.path, `${this.path}.1`);
    this.#droppedBytes += this.#olderBytes;
    this.#olderBytes = this.#sizeBytes;
    this.#sizeBytes = 0;
    this.#open();
  }
}

/**
 * For a file that another process keeps open with O_APPEND, so that it cannot be renamed away: empties it
 * when it is over `maxBytes`. True when it did.
 */
export function truncateWhenOver(path: string, maxBytes: number): boolean {
  if (sizeOf(path) <= maxBytes) return false;
  truncateSync(path, 0);
  return true;
}

/** The file and what was rotated away. Idempotent. */
export function removeBoundedFile(path: string): void {
  rmSync(path, { force: true });
  rmSync(`${path}.1`, { force: true });
}

/** The last `maxBytes` as text, or less: nothing from before `fromByte`. Empty when there is no such file. */
export function readTail(path: string, maxBytes: number, fromByte = 0): string {
  const start = Math.max(fromByte, sizeOf(path) - maxBytes);
  const buffer = Buffer.alloc(maxBytes);
  try {
    const fd = openSync(path, "r");
    try {
      return buffer.toString("utf8", 0, readSync(fd, buffer, 0, maxBytes, start));
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw error;
  }
}

/** 0 when there is no such file. */
export function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}
