/**
 * Files that other programs fill and Hearth bounds: together with their rotated part they take at most twice the limit.
 */
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
 * A file to append to. When it would exceed `maxBytes` it is renamed to `PATH.1`, in place of the older one. Writes are
 * synchronous: a writer that is faster than the disk waits, and no data accumulates in memory.
 */
export class BoundedFile implements Disposable {
  readonly path: string;
  readonly #maxBytes: number;
  #fd: number | undefined;
  #sizeBytes: number;
  /** The size of `PATH.1`, which the next rotation deletes. */
  #olderBytes: number;
  #droppedBytes = 0;
  #closed = false;

  /** Opens the file for appending; a new one gets mode 0600. */
  constructor(path: string, maxBytes: number) {
    this.path = path;
    this.#maxBytes = maxBytes;
    this.#fd = openSync(path, "a", 0o600);
    this.#sizeBytes = fstatSync(this.#fd).size;
    this.#olderBytes = sizeOf(`${path}.1`);
  }

  /** The number of bytes that were rotated away and deleted since this object was made. */
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

  /** Closes the file. Idempotent. */
  [Symbol.dispose](): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
    this.#closed = true;
  }

  /** Reopens the file if a rotation could not create it: the disk may have space by now. */
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
 * Empties a file that is larger than `maxBytes`, and returns whether it did. For files that another process keeps open
 * with O_APPEND, which cannot be rotated by a rename.
 */
export function truncateWhenOver(path: string, maxBytes: number): boolean {
  if (sizeOf(path) <= maxBytes) return false;
  truncateSync(path, 0);
  return true;
}

/** Removes the file and its rotated part. Idempotent. */
export function removeBoundedFile(path: string): void {
  rmSync(path, { force: true });
  rmSync(`${path}.1`, { force: true });
}

/** Returns at most the last `maxBytes` as text, and nothing before `fromByte`. Empty if the file does not exist. */
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

/** Returns the size of a file, or 0 if it does not exist. */
export function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}
