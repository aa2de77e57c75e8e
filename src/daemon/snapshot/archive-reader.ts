/** Reads a snapshot's archive, member by member. Each error names the member at which it was found. */
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createZstdDecompress } from "node:zlib";
import { extract } from "tar-stream";
import type { Extract } from "tar-stream";
import { HearthError, toError } from "#base/error.ts";
import { MIB } from "#base/sizes.ts";
import { MANIFEST_MAX_BYTES, MANIFEST_NAME, parseManifest } from "#daemon/snapshot/snapshot-manifest.ts";
import type { SnapshotManifest } from "#daemon/snapshot/snapshot-manifest.ts";
import { memberName } from "#host/sparse-tar.ts";
import type { TarMember } from "#host/sparse-tar.ts";
import { ZstdFrames } from "#host/zstd-frames.ts";

const CHUNK_BYTES = MIB;
/** The size of headers and hole maps, for each member and for the end. */
const AROUND_MAX_BYTES = 40 * MIB;

/**
 * Reads one archive. Every method throws HearthError `archive.corrupt`, or the signal's reason; after that none may be
 * called.
 */
export class ArchiveReader implements Disposable {
  readonly #signal: AbortSignal;
  readonly #members: Extract = extract();
  readonly #iterator: AsyncIterator<TarMember>;
  readonly #flowing: Promise<void>;
  /** The bytes that may still come: a small archive that unpacks to a full disk's worth is not read to its end. */
  #leftBytes = MANIFEST_MAX_BYTES + AROUND_MAX_BYTES;

  constructor(body: AsyncIterable<Uint8Array>, signal: AbortSignal) {
    this.#signal = signal;
    // The types of tar-stream do not say what kind of stream a member is.
    this.#iterator = this.#members[Symbol.asyncIterator]() as unknown as AsyncIterator<TarMember>;
    const unpack = createZstdDecompress({ chunkSize: CHUNK_BYTES });
    const bounded = (chunks: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> => this.#bounded(chunks);
    this.#flowing = pipeline(Readable.from(received(body)), unpack, bounded, this.#members, { signal });
    // The members fail as well, and pass the error to their reader.
    this.#flowing.catch(() => undefined);
  }

  /** Returns the manifest, which is the first member. Called first. */
  async manifest(): Promise<SnapshotManifest> {
    return this.receive(MANIFEST_NAME, async (member) => {
      const manifest = parseManifest(await readText(member));
      for (const { sizeBytes } of manifest.parts) this.#leftBytes += sizeBytes + AROUND_MAX_BYTES;
      return manifest;
    });
  }

  /** Returns what `work` makes of the next member, which has to have this name. `work` reads it to its end. */
  async receive<Result>(name: string, work: (member: TarMember) => Promise<Result>): Promise<Result> {
    return this.#at(name, async () => {
      const { done, value: member } = await this.#iterator.next();
      if (done === true) throw new Error("the archive ends before this file");
      const found = memberName(member);
      if (found !== name) throw new Error(`${JSON.stringify(found.slice(0, 80))} was found instead`);
      return work(member);
    });
  }

  /** Checks that no member follows, and that the archive is complete. */
  async end(): Promise<void> {
    await this.#at("its end", async () => {
      const { done, value: member } = await this.#iterator.next();
      if (done !== true)
        throw new Error(`${JSON.stringify(memberName(member).slice(0, 80))} is not part of a snapshot`);
      await this.#flowing;
    });
  }

  /** Ends the reading. Does not wait for the sender, which may have stopped to send. */
  [Symbol.dispose](): void {
    this.#members.destroy();
  }

  async #at<Result>(where: string, work: () => Promise<Result>): Promise<Result> {
    try {
      return await work();
    } catch (thrown) {
      this.#signal.throwIfAborted();
      // An error of the file system is not the archive's.
      if (thrown instanceof HearthError || isSystemError(thrown)) throw thrown;
      throw new HearthError("archive.corrupt", `The archive is damaged at ${where}`, {
        hint: "Nothing of it was kept. Export the snapshot again, and copy the file without changes.",
        cause: toError(thrown),
      });
    }
  }

  async *#bounded(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      this.#leftBytes -= chunk.length;
      if (this.#leftBytes < 0) throw new Error("the archive has more files than its manifest");
      yield chunk;
    }
  }
}

async function* received(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const frames = new ZstdFrames();
  try {
    for await (const piece of body) {
      frames.follow(piece);
      yield piece;
    }
    frames.end();
  } catch (cause) {
    // An error of the body, such as a socket's, is not one of this host's files.
    throw new Error("the archive ended too early", { cause });
  }
}

function isSystemError(thrown: unknown): boolean {
  return thrown instanceof Error && "syscall" in thrown;
}

async function readText(member: TarMember): Promise<string> {
  const { type, size = 0 } = member.header;
  if (type !== "file") throw new Error(`it is not a file, but a ${type ?? "entry of unknown type"}`);
  if (size > MANIFEST_MAX_BYTES) throw new Error(`it has ${size} bytes; the limit is ${MANIFEST_MAX_BYTES}`);
  const chunks: Uint8Array[] = [];
  for await (const chunk of member) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}
