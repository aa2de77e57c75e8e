/**
 * Unpacks LZ4's legacy frame, a format of kernels: a magic number, then blocks that each begin with their packed size.
 * Written here because Node has no LZ4, the maintained libraries are native, and the format is these few lines. It was
 * frozen in 2012.
 */

/** `02 21 4c 18` on disk. */
export const LZ4_LEGACY_MAGIC = 0x184c2102;
/** The unpacked size of a block, except for the last, which may be smaller. */
const BLOCK_MAX_BYTES = 8 * 1024 * 1024;
/** A loop copies shorter literals faster than a call. */
const SHORT_BYTES = 16;
const MATCH_MIN_BYTES = 4;

/**
 * Yields the unpacked blocks. Each is a view on one buffer, and is valid until the next is requested.
 * @throws Error if the bytes are not such a frame; nothing outside of them is read or written
 */
export function* unpackLz4Legacy(frame: Uint8Array): Generator<Uint8Array, void, undefined> {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const block = new Uint8Array(BLOCK_MAX_BYTES);
  if (frame.length < 4 || view.getUint32(0, true) !== LZ4_LEGACY_MAGIC)
    throw new Error("not an LZ4 legacy frame");
  for (let at = 4; at < frame.length;) {
    if (frame.length - at < 4) throw new Error("the LZ4 frame ends inside a block's size");
    const sizeBytes = view.getUint32(at, true);
    at += 4;
    if (sizeBytes === LZ4_LEGACY_MAGIC) continue; // Frames may follow one another.
    if (sizeBytes === 0 || sizeBytes > frame.length - at)
      throw new Error("an LZ4 block is larger than its frame");
    yield block.subarray(0, unpackBlock(frame.subarray(at, at + sizeBytes), block));
    at += sizeBytes;
  }
}

/** Returns how many bytes of `target` were filled. */
function unpackBlock(source: Uint8Array, target: Uint8Array): number {
  let from = 0;
  let to = 0;
  for (;;) {
    const token = source[from++];
    if (token === undefined) throw new Error("an LZ4 block ends before its last literals");
    let literals = token >> 4;
    if (literals === 15) {
      for (let more = 255; more === 255; literals += more) more = source[from++] ?? overrun();
    }
    if (literals > source.length - from || literals > target.length - to) overrun();
    if (literals < SHORT_BYTES) for (const end = to + literals; to < end;) target[to++] = source[from++]!;
    else {
      target.set(source.subarray(from, from + literals), to);
      from += literals;
      to += literals;
    }
    if (from === source.length) return to; // The last sequence has no match.
    const offset = (source[from++] ?? overrun()) | ((source[from++] ?? overrun()) << 8);
    if (offset === 0 || offset > to) throw new Error("an LZ4 block refers to bytes before its begin");
    let length = token & 15;
    if (length === 15) {
      for (let more = 255; more === 255; length += more) more = source[from++] ?? overrun();
    }
    length += MATCH_MIN_BYTES;
    if (length > target.length - to) overrun();
    // A match may overlap its own output and then repeat itself, which only a loop copies correctly.
    if (length > SHORT_BYTES && offset >= length) target.copyWithin(to, to - offset, to - offset + length);
    else for (let index = to; index < to + length; index++) target[index] = target[index - offset]!;
    to += length;
  }
}

function overrun(): never {
  throw new Error("an LZ4 block says more than it holds");
}
