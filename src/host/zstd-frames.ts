/**
 * Finds the ends of zstd frames by their block headers: RFC 8878, section 3.1.1. `node:zlib` accepts a frame whose last
 * bytes are missing if the content is complete, and ignores data behind a frame. It writes an empty frame behind the
 * first one itself, when it was given the content in pieces.
 */

const MAGIC = 0xfd2fb528;
const MAGIC_AND_DESCRIPTOR_BYTES = 5;
const BLOCK_HEADER_BYTES = 3;
const CHECKSUM_BYTES = 4;
/** The sizes of the fields that the descriptor's flags choose, in the order of the flags' values. */
const DICTIONARY_BYTES = [0, 1, 2, 4] as const;
const CONTENT_SIZE_BYTES = [0, 2, 4, 8] as const;
const RUN_LENGTH = 1;

/** The position in the frames. `start`: a frame has ended, and another one may follow. */
type Where = "header" | "block" | "start";

/** Follows frames through their pieces, without reading the content of the blocks. */
export class ZstdFrames {
  #where: Where = "header";
  #skipBytes = 0;
  #checksum = false;
  /** The part of a header that has arrived. */
  #header = Buffer.alloc(0);

  /** @throws Error if this is not a frame, or if other data follows one */
  follow(piece: Uint8Array): void {
    let rest = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
    while (rest.length > 0) rest = this.#skipBytes > 0 ? this.#skip(rest) : this.#take(rest);
  }

  /** @throws Error if a frame is incomplete */
  end(): void {
    if (this.#where !== "start" || this.#skipBytes + this.#header.length > 0)
      throw new Error("it is truncated");
  }

  #skip(rest: Buffer): Buffer {
    const bytes = Math.min(this.#skipBytes, rest.length);
    this.#skipBytes -= bytes;
    return rest.subarray(bytes);
  }

  #take(rest: Buffer): Buffer {
    const wanted = this.#where === "block" ? BLOCK_HEADER_BYTES : MAGIC_AND_DESCRIPTOR_BYTES;
    const taken = rest.subarray(0, wanted - this.#header.length);
    this.#header = Buffer.concat([this.#header, taken]);
    if (this.#header.length === wanted) {
      if (this.#where === "block") this.#readBlock(this.#header.readUIntLE(0, BLOCK_HEADER_BYTES));
      else this.#readHeader(this.#header);
      this.#header = Buffer.alloc(0);
    }
    return rest.subarray(taken.length);
  }

  #readHeader(header: Buffer): void {
    if (header.readUInt32LE(0) !== MAGIC)
      throw new Error(
        this.#where === "start" ? "it has data after its end" : "it is not compressed with zstd",
      );
    const descriptor = header.readUInt8(4);
    const single = (descriptor & 0x20) !== 0;
    const sizeFlag = descriptor >> 6;
    const windowBytes = single ? 0 : 1;
    const contentSizeBytes = single && sizeFlag === 0 ? 1 : (CONTENT_SIZE_BYTES[sizeFlag] ?? 0);
    this.#checksum = (descriptor & 0x04) !== 0;
    this.#skipBytes = windowBytes + (DICTIONARY_BYTES[descriptor & 0x03] ?? 0) + contentSizeBytes;
    this.#where = "block";
  }

  #readBlock(header: number): void {
    const size = header >> 3;
    this.#skipBytes = ((header >> 1) & 3) === RUN_LENGTH ? 1 : size;
    if ((header & 1) === 0) return;
    this.#skipBytes += this.#checksum ? CHECKSUM_BYTES : 0;
    this.#where = "start";
  }
}
