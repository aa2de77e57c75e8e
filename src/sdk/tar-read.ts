/** Reads tar archives whose names are bytes. The archive is not trusted, and memory is bounded. */
import { HearthError } from "#base/error.ts";
import type { BytePath } from "#sdk/byte-path.ts";
import { BLOCK_BYTES, readPaxRecords, readTarHeader, textIn, withPaxRecords } from "#sdk/tar-format.ts";
import type { RawHeader, TarHeader } from "#sdk/tar-format.ts";

/** A member of an archive. Content that is not read is skipped. */
export type TarMember = { readonly header: TarHeader; readonly content: AsyncIterable<Buffer> };

export type ReadTarOptions = {
  /** Gets the records of global pax headers, which belong to no member. */
  readonly onGlobal?: ((key: string, value: BytePath) => void) | undefined;
};

/** The limit for GNU long names and pax records. A name has 4 KiB at most. */
const LONG_HEADER_MAX_BYTES = 1024 * 1024;

/** Yields the members in order. @throws HearthError `file.refused` for an archive that is broken or cut off. */
export async function* readTarMembers(
  source: AsyncIterable<Uint8Array>,
  options: ReadTarOptions = {},
  signal?: AbortSignal,
): AsyncGenerator<TarMember, void, undefined> {
  const blocks = new Blocks(source[Symbol.asyncIterator](), signal);
  try {
    for (;;) {
      const header = await readHeader(blocks, options);
      if (header === undefined) break;
      // Directories and links have no content, whatever their size says.
      const size = header.type === "file" || header.type === "unknown" ? header.size : 0;
      const content = blocks.content(size);
      yield { header, content };
      for await (const rest of content) void rest; // Skips to the next header.
    }
    await blocks.readAway();
  } finally {
    await blocks.close();
  }
}

/** Reads a header and the extension headers before it; undefined at the end of the archive. */
async function readHeader(blocks: Blocks, { onGlobal }: ReadTarOptions): Promise<RawHeader | undefined> {
  const changes: ((header: RawHeader) => RawHeader)[] = [];
  for (;;) {
    const header = decoded(await blocks.take(BLOCK_BYTES), readTarHeader);
    if (header === undefined) return undefined;
    switch (header.flag) {
      case "x":
      case "g": {
        const records = decoded(await longHeader(blocks, header), readPaxRecords);
        if (header.flag === "x") changes.push((next) => withPaxRecords(next, records));
        else for (const [key, value] of records) onGlobal?.(key, value);
        break;
      }
      case "L": {
        const name = textIn(await longHeader(blocks, header));
        changes.push((next) => ({ ...next, name }));
        break;
      }
      case "K": {
        const linkname = textIn(await longHeader(blocks, header));
        changes.push((next) => ({ ...next, linkname }));
        break;
      }
      default: {
        const whole = changes.reduce((before, change) => change(before), header);
        if (!Number.isSafeInteger(whole.size) || whole.size < 0) throw notWhole(new Error("it has no size"));
        return whole;
      }
    }
    // Only the archive's length limits their number, and only the last of a kind has an effect.
    if (changes.length > 8) throw notWhole(new Error("one file has too many headers"));
  }
}

async function longHeader(blocks: Blocks, { size }: RawHeader): Promise<Buffer> {
  if (!(size >= 0 && size <= LONG_HEADER_MAX_BYTES)) throw notWhole(new Error("a header is too long"));
  const bytes = await blocks.take(Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES);
  return bytes.subarray(0, size);
}

function decoded<Result>(bytes: Buffer, decode: (bytes: Buffer) => Result): Result {
  try {
    return decode(bytes);
  } catch (cause) {
    throw notWhole(cause);
  }
}

/** Cuts the source's bytes as they are needed. */
class Blocks {
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #signal: AbortSignal | undefined;
  #rest: Buffer = Buffer.alloc(0);

  constructor(source: AsyncIterator<Uint8Array>, signal: AbortSignal | undefined) {
    this.#source = source;
    this.#signal = signal;
  }

  async take(count: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let left = count; left > 0;) {
      const part = await this.#some(left);
      parts.push(part);
      left -= part.byteLength;
    }
    const [first] = parts;
    return parts.length === 1 && first !== undefined ? first : Buffer.concat(parts);
  }

  /** Yields the next `size` bytes. Each iteration continues where the one before it stopped. */
  content(size: number): AsyncIterable<Buffer> {
    let left = size;
    let padding = (BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES;
    const next = async (): Promise<IteratorResult<Buffer>> => {
      if (left > 0) {
        const value = await this.#some(left);
        left -= value.byteLength;
        return { done: false, value };
      }
      if (padding > 0) await this.take(padding);
      padding = 0;
      return { done: true, value: undefined };
    };
    return { [Symbol.asyncIterator]: () => ({ next }) };
  }

  /** Reads and drops what follows the end of the archive, so that its writer can finish. */
  async readAway(): Promise<void> {
    for (let isOver = false; !isOver;) isOver = (await this.#source.next()).done === true;
  }

  async close(): Promise<void> {
    await this.#source.return?.();
  }

  /** Returns at least one byte, and at most `count`. */
  async #some(count: number): Promise<Buffer> {
    while (this.#rest.byteLength === 0) {
      this.#signal?.throwIfAborted();
      const next = await this.#source.next();
      if (next.done === true) throw notWhole(new Error("it ends too early"));
      this.#rest = Buffer.from(next.value.buffer, next.value.byteOffset, next.value.byteLength);
    }
    const part = this.#rest.subarray(0, count);
    this.#rest = this.#rest.subarray(part.byteLength);
    return part;
  }
}

function notWhole(cause: unknown): HearthError {
  return new HearthError("file.refused", "The VM sent a damaged tar stream", {
    hint: "Copy it again.",
    cause,
  });
}
