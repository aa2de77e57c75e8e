/** Files that are mostly holes: hashed with the zeros that a reader sees, and written without allocating them. */
import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { setImmediate } from "node:timers/promises";
import { findExtents } from "#host/file-extents.ts";
import type { Extent, MapFile } from "#host/file-extents.ts";
import type { FileHash } from "#host/hash-file.ts";

export type FileScan = FileHash & {
  /** The parts that are not all zeros, in order, at most `EXTENTS_MAX`. */
  readonly extents: readonly Extent[];
};

/** The limit of extents in memory. */
export const EXTENTS_MAX = 2 ** 20;
const CHUNK_BYTES = 1024 * 1024;
/** Shorter zeros stay in an extent, because a further extent would take more space than they do. */
const HOLE_MIN_BYTES = 64 * 1024;
/** The block size of file systems, and so the smallest hole. */
const BLOCK_BYTES = 4096;
const ZEROS = Buffer.alloc(CHUNK_BYTES);
/** The bytes after which the event loop gets a turn, if nothing had to be awaited. */
const TURN_BYTES = 4 * CHUNK_BYTES;

/**
 * Reads and hashes a file without reading its holes, in bounded memory. Rejects with the signal's reason when aborted.
 */
export async function scanFile(path: string, map: MapFile, signal: AbortSignal): Promise<FileScan> {
  await using file = await open(path, "r");
  const { size: sizeBytes } = await file.stat();
  const hash = new ContentHash(signal);
  const extents: Extent[] = [];
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  const stepBytes = stepFor(sizeBytes);
  for (const found of await findExtents(path, sizeBytes, map, signal)) {
    await hash.zerosTo(found.offset);
    for (const end = found.offset + found.sizeBytes; hash.sizeBytes < end;) {
      const want = Math.min(CHUNK_BYTES, end - hash.sizeBytes);
      const { bytesRead } = await file.read(buffer, 0, want, hash.sizeBytes);
      if (bytesRead === 0) throw new Error(`${path} became shorter while it was read`);
      const chunk = buffer.subarray(0, bytesRead);
      addExtents(extents, chunk, hash.sizeBytes, stepBytes);
      await hash.update(chunk);
    }
  }
  await hash.zerosTo(sizeBytes);
  return { ...hash.finish(), extents };
}

/** Returns a step for which even a file with a hole in every second step has at most half of `EXTENTS_MAX`. */
function stepFor(sizeBytes: number): number {
  let stepBytes = HOLE_MIN_BYTES;
  while (stepBytes < CHUNK_BYTES && sizeBytes / stepBytes > EXTENTS_MAX) stepBytes *= 2;
  return stepBytes;
}

function addExtents(extents: Extent[], chunk: Buffer, position: number, stepBytes: number): void {
  if (isZeros(chunk)) return;
  for (let at = 0; at < chunk.length; at += stepBytes) {
    const step = chunk.subarray(at, at + stepBytes);
    if (!isZeros(step)) addExtent(extents, position + at, step.length);
  }
}

function addExtent(extents: Extent[], offset: number, sizeBytes: number): void {
  const last = extents.at(-1);
  const joins = last !== undefined && last.offset + last.sizeBytes === offset;
  if (joins) extents[extents.length - 1] = { offset: last.offset, sizeBytes: last.sizeBytes + sizeBytes };
  else extents.push({ offset, sizeBytes });
}

/** `bytes` is at most as long as a chunk. */
function isZeros(bytes: Uint8Array): boolean {
  return ZEROS.compare(bytes, 0, bytes.length, 0, bytes.length) === 0;
}

/** The sha256 of a file as a reader sees it, from its beginning to its end. Gives the event loop turns. */
class ContentHash {
  readonly #hash = createHash("sha256");
  readonly #signal: AbortSignal;
  #sizeBytes = 0;
  #sinceTurn = 0;

  constructor(signal: AbortSignal) {
    this.#signal = signal;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Adds at most one chunk. */
  async update(chunk: Uint8Array): Promise<void> {
    this.#hash.update(chunk);
    this.#sizeBytes += chunk.length;
    this.#sinceTurn += chunk.length;
    this.#signal.throwIfAborted();
    if (this.#sinceTurn < TURN_BYTES) return;
    this.#sinceTurn = 0;
    await setImmediate();
  }

  async zerosTo(position: number): Promise<void> {
    while (this.#sizeBytes < position)
      await this.update(ZEROS.subarray(0, Math.min(CHUNK_BYTES, position - this.#sizeBytes)));
  }

  finish(): FileHash {
    return { sha256: this.#hash.digest("hex"), sizeBytes: this.#sizeBytes };
  }
}

/** Writes a new file from its beginning to its end. Zeros become holes. */
export class SparseWriter implements AsyncDisposable {
  readonly #file: FileHandle;
  readonly #hash: ContentHash;

  private constructor(file: FileHandle, signal: AbortSignal) {
    this.#file = file;
    this.#hash = new ContentHash(signal);
  }

  /** Creates the file with mode 0600. Nothing may exist at `path`. */
  static async create(path: string, signal: AbortSignal): Promise<SparseWriter> {
    return new SparseWriter(await open(path, "wx", 0o600), signal);
  }

  /** The current size of the file. */
  get sizeBytes(): number {
    return this.#hash.sizeBytes;
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
      const chunk = bytes.subarray(at, at + CHUNK_BYTES);
      for (const { offset, sizeBytes } of dataIn(chunk, this.sizeBytes))
        await this.#writeAt(chunk.subarray(offset, offset + sizeBytes), this.sizeBytes + offset);
      await this.#hash.update(chunk);
    }
  }

  /** Makes a hole up to `position`. */
  async skipTo(position: number): Promise<void> {
    await this.#hash.zerosTo(position);
  }

  /** Syncs the file. Nothing can be written after that. */
  async finish(): Promise<FileHash> {
    await this.#file.truncate(this.sizeBytes);
    await this.#file.sync();
    return this.#hash.finish();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#file.close();
  }

  async #writeAt(bytes: Uint8Array, position: number): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      const { bytesWritten } = await this.#file.write(bytes, at, bytes.length - at, position + at);
      at += bytesWritten;
    }
  }
}

/** Returns the parts of bytes at `position` that have to be written: all but the blocks of zeros. */
function dataIn(chunk: Uint8Array, position: number): Extent[] {
  const found: Extent[] = [];
  if (isZeros(chunk)) return found;
  for (let at = 0; at < chunk.length;) {
    const end = Math.min(chunk.length, at + BLOCK_BYTES - ((position + at) % BLOCK_BYTES));
    if (!isZeros(chunk.subarray(at, end))) addExtent(found, at, end - at);
    at = end;
  }
  return found;
}
