/**
 * Packs and unpacks files with holes as members of a tar, in the format of `tar --sparse --format=posix` (GNU's sparse
 * format 1.0): the member begins with a map of its extents in decimal lines, padded to a record. Their content follows.
 *
 *     count ⏎  offset ⏎  size ⏎  offset ⏎  size ⏎ …  0 0 0   extent, extent, …
 *
 * Compatible with GNU tar in both directions. GNU tar is not run: an archive is not trusted, the program would have to
 * be limited to one file, one type and one size, and the holes are known from hashing.
 */
import { open } from "node:fs/promises";
import type { Header, Pack } from "tar-stream";
import { EXTENTS_MAX, SparseWriter } from "#host/sparse-file.ts";
import type { FileScan } from "#host/sparse-file.ts";
import type { Extent } from "#host/file-extents.ts";
import type { FileHash } from "#host/hash-file.ts";

/** A member from tar-stream. */
export type TarMember = AsyncIterable<Uint8Array> & { readonly header: Header };
type Pax = Readonly<Record<string, string>>;

const RECORD_BYTES = 512;
const CHUNK_BYTES = 512 * 1024;
/** 15 digits are a petabyte. */
const NUMBER = /^\d{1,15}$/;

/** Packs a file as it was scanned. Nothing may write to it meanwhile. */
export async function packSparse(
  tar: Pack,
  name: string,
  path: string,
  scan: FileScan,
  mtime: Date,
  signal: AbortSignal,
): Promise<void> {
  const map = encodeMap(scan);
  const size = scan.extents.reduce((sum, { sizeBytes }) => sum + sizeBytes, map.length);
  const pax = {
    "GNU.sparse.major": "1",
    "GNU.sparse.minor": "0",
    "GNU.sparse.name": name,
    "GNU.sparse.realsize": String(scan.sizeBytes),
  };
  const { promise: packed, resolve, reject } = Promise.withResolvers<void>();
  // Programs that do not support holes unpack a file of this name, which is not the content.
  const header = { name: `GNUSparseFile.0/${name}`, mode: 0o600, size, mtime, pax };
  const sink = tar.entry(header, (error) => (error ? reject(error) : resolve()));
  // `packed` is awaited below, unless something else fails first. Its rejection must then not be unhandled, and the
  // event must not crash the process.
  packed.catch(() => undefined);
  sink.on("error", () => undefined);
  const write = async (bytes: Uint8Array): Promise<void> => {
    // The callback of `packed` also fires when the tar breaks, so this cannot wait for ever.
    if (!sink.write(bytes))
      await Promise.race([new Promise<void>((done) => sink.once("drain", () => done())), packed]);
  };
  await write(map);
  await using file = await open(path, "r");
  for (const extent of scan.extents) {
    for (let done = 0; done < extent.sizeBytes;) {
      signal.throwIfAborted();
      const want = Math.min(CHUNK_BYTES, extent.sizeBytes - done);
      const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(want), 0, want, extent.offset + done);
      if (bytesRead === 0) throw new Error(`${path} became shorter while it was read`);
      await write(buffer.subarray(0, bytesRead));
      done += bytesRead;
    }
  }
  sink.end(null);
  await packed;
}

function encodeMap({ extents, sizeBytes }: FileScan): Buffer {
  // An empty extent tells GNU tar the end of the file.
  const all = [...extents, { offset: sizeBytes, sizeBytes: 0 }];
  const numbers = [all.length, ...all.flatMap((extent) => [extent.offset, extent.sizeBytes])];
  const text = Buffer.from(`${numbers.join("\n")}\n`);
  return Buffer.concat([text, Buffer.alloc(padding(text.length))]);
}

function padding(bytes: number): number {
  return (RECORD_BYTES - (bytes % RECORD_BYTES)) % RECORD_BYTES;
}

/** Returns the name of a member. If it has holes, the name in its header is a substitute. */
export function memberName({ header }: TarMember): string {
  return paxOf(header)["GNU.sparse.name"] ?? header.name;
}

function paxOf({ pax }: Header): Pax {
  return (pax ?? {}) as Pax;
}

/**
 * Writes a member, with or without holes, to `path`, which must not exist. The member is not trusted: unless it is a
 * plain file of the expected size it is refused before anything is written, and no name in it is used.
 * @throws Error that begins with "it", and errors of writing
 */
export async function unpackSparse(
  member: TarMember,
  path: string,
  expectedBytes: number,
  onBytes: (position: number) => void,
  signal: AbortSignal,
): Promise<FileHash> {
  const { type, size = 0 } = member.header;
  if (type !== "file") throw new Error(`it is not a file, but a ${type ?? "entry of unknown type"}`);
  const chunks = new Chunks(member);
  const { sizeBytes, extents } = await readLayout(chunks, size, paxOf(member.header));
  if (sizeBytes !== expectedBytes) throw new Error(`it has ${sizeBytes} bytes, and not ${expectedBytes}`);
  await using writer = await SparseWriter.create(path, signal);
  for (const extent of extents) {
    await writer.skipTo(extent.offset);
    for (let left = extent.sizeBytes; left > 0;) {
      const bytes = await chunks.take(left);
      await writer.write(bytes);
      left -= bytes.length;
      onBytes(writer.sizeBytes);
    }
  }
  await writer.skipTo(sizeBytes);
  await chunks.end();
  onBytes(sizeBytes);
  return await writer.finish(); // Awaited here, while the file is open.
}

type Layout = { readonly sizeBytes: number; readonly extents: readonly Extent[] };

async function readLayout(chunks: Chunks, storedBytes: number, pax: Pax): Promise<Layout> {
  const isSparse = Object.keys(pax).some((key) => key.startsWith("GNU.sparse."));
  if (!isSparse) return { sizeBytes: storedBytes, extents: [{ offset: 0, sizeBytes: storedBytes }] };
  if (pax["GNU.sparse.major"] !== "1" || pax["GNU.sparse.minor"] !== "0")
    throw new Error("its holes are not in the GNU 1.0 format");
  const sizeBytes = parseNumber(pax["GNU.sparse.realsize"] ?? "");
  const extents = await readMap(chunks, sizeBytes);
  const dataBytes = extents.reduce((sum, extent) => sum + extent.sizeBytes, 0);
  if (chunks.takenBytes + dataBytes !== storedBytes)
    throw new Error("its map of holes does not match its data");
  return { sizeBytes, extents };
}

async function readMap(chunks: Chunks, fileBytes: number): Promise<Extent[]> {
  const count = parseNumber(await chunks.line());
  if (count > EXTENTS_MAX)
    throw new Error(`it has ${count} parts between holes; the limit is ${EXTENTS_MAX}`);
  const extents: Extent[] = [];
  let end = 0;
  for (let index = 0; index < count; index += 1) {
    const offset = parseNumber(await chunks.line());
    const sizeBytes = parseNumber(await chunks.line());
    if (offset < end || offset + sizeBytes > fileBytes) throw new Error("its map of holes is not in order");
    end = offset + sizeBytes;
    extents.push({ offset, sizeBytes });
  }
  await chunks.skip(padding(chunks.takenBytes));
  return extents;
}

function parseNumber(text: string): number {
  if (!NUMBER.test(text)) throw new Error("its map of holes is not made of numbers");
  return Number(text);
}

/** The bytes of a member, on request. */
class Chunks {
  readonly #iterator: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array();
  #takenBytes = 0;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#iterator = source[Symbol.asyncIterator]();
  }

  get takenBytes(): number {
    return this.#takenBytes;
  }

  /** Returns at least one and at most `maxBytes` bytes. */
  async take(maxBytes: number): Promise<Uint8Array> {
    if (this.#rest.length === 0 && !(await this.#more())) throw new Error("it ends too early");
    const taken = this.#rest.subarray(0, maxBytes);
    this.#rest = this.#rest.subarray(taken.length);
    this.#takenBytes += taken.length;
    return taken;
  }

  async skip(bytes: number): Promise<void> {
    for (let left = bytes; left > 0;) left -= (await this.take(left)).length;
  }

  /** Returns a line without its line break. A number that is too long is cut. */
  async line(): Promise<string> {
    let text = "";
    while (text.length < 20) {
      const [byte = 0] = await this.take(1);
      if (byte === 0x0a) return text;
      text += String.fromCharCode(byte);
    }
    return text;
  }

  /** Reads to the end of the member, which must follow directly. */
  async end(): Promise<void> {
    if (this.#rest.length > 0 || (await this.#more())) throw new Error("it has data after its end");
  }

  async #more(): Promise<boolean> {
    for (;;) {
      const { done, value } = await this.#iterator.next();
      if (done === true) return false;
      if (value.length === 0) continue;
      this.#rest = value;
      return true;
    }
  }
}
