/** Packs files and directories of the host into a tar stream. */
import { constants } from "node:fs";
import { lstat, open, readdir, readlink } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import type { Stats } from "node:fs";
import { bytePathOf, joinBytes, kindOf, rawPath } from "#sdk/byte-path.ts";
import type { BytePath } from "#sdk/byte-path.ts";
import type { SkippedFiles } from "#sdk/skipped-files.ts";
import { TAR_END, tarHeader, tarPadding } from "#sdk/tar-format.ts";
import type { TarHeader } from "#sdk/tar-format.ts";

/**
 * A file or directory of the host and its name in the archive. An empty name packs a directory's content without it.
 */
export type Root = { readonly path: BytePath; readonly name: BytePath };

/** Large enough to keep the disk and the socket busy. */
const CHUNK_BYTES = 512 * 1024;
/** The limit for files without a size in `stat`, such as those of /proc, which are read into memory. */
const SIZELESS_MAX_BYTES = 16 * 1024 * 1024;

/** Packs files and directories with everything below them. What cannot be packed is added to `skipped`. */
export async function* packTrees(
  roots: readonly Root[],
  skipped: SkippedFiles,
  signal?: AbortSignal,
): AsyncGenerator<Buffer, void, undefined> {
  const packer = new Packer(skipped, signal);
  for (const { path, name } of roots) yield* packer.path(path, name);
  yield TAR_END;
}

class Packer {
  readonly #skipped: SkippedFiles;
  readonly #signal: AbortSignal | undefined;
  /** The first name of each file that has several. The other names become hard links to it, as on the host. */
  readonly #linked = new Map<string, BytePath>();

  constructor(skipped: SkippedFiles, signal: AbortSignal | undefined) {
    this.#skipped = skipped;
    this.#signal = signal;
  }

  async *path(path: BytePath, name: BytePath): AsyncGenerator<Buffer, void, undefined> {
    this.#signal?.throwIfAborted();
    const stats = await this.#try(path, () => lstat(rawPath(path)));
    if (stats === undefined) return;
    if (stats.isDirectory()) yield* this.#directory(path, name, stats);
    else if (stats.isSymbolicLink()) {
      const target = await this.#try(path, () => readlink(rawPath(path), { encoding: "buffer" }));
      if (target !== undefined)
        yield tarHeader({ ...headerOf(stats, name), type: "symlink", linkname: bytePathOf(target) });
    } else if (stats.isFile()) yield* this.#file(path, name, stats);
    else this.#skipped.add(path, kindOf(stats));
  }

  async *#directory(path: BytePath, name: BytePath, stats: Stats): AsyncGenerator<Buffer, void, undefined> {
    if (name !== "")
      yield tarHeader({ ...headerOf(stats, `${name}/` as BytePath), type: "directory", size: 0 });
    const children = await this.#try(path, () => readdir(rawPath(path), { encoding: "buffer" }));
    for (const child of (children ?? []).map(bytePathOf).toSorted()) {
      yield* this.path(joinBytes(path, child), name === "" ? child : joinBytes(name, child));
    }
  }

  async *#file(path: BytePath, name: BytePath, stats: Stats): AsyncGenerator<Buffer, void, undefined> {
    const identity = `${stats.dev}:${stats.ino}`;
    const first = stats.nlink > 1 ? this.#linked.get(identity) : undefined;
    if (first !== undefined)
      return yield tarHeader({ ...headerOf(stats, name), type: "link", linkname: first });
    const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
    await using file = await this.#try(path, () => open(rawPath(path), O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
    // The head is read before the header is written: a header without its content breaks the archive.
    const head = file && (await this.#try(path, () => readHead(file)));
    if (file === undefined || head === undefined) return;
    const size = head.isWhole ? head.bytes.byteLength : head.size;
    yield tarHeader({ ...headerOf(stats, name), type: "file", size });
    yield head.bytes;
    yield* this.#rest(file, path, size - head.bytes.byteLength);
    yield tarPadding(size);
    if (stats.nlink > 1) this.#linked.set(identity, name);
  }

  /**
   * Streams the rest of a file. A file that grew is cut at its announced size. One that shrank is filled with zeros and
   * reported as skipped.
   */
  async *#rest(file: FileHandle, path: BytePath, size: number): AsyncGenerator<Buffer, void, undefined> {
    let isCut = false;
    for (let left = size; left > 0;) {
      this.#signal?.throwIfAborted();
      const count = Math.min(CHUNK_BYTES, left);
      let part = isCut ? Buffer.alloc(count) : await this.#try(path, () => readFull(file, count));
      if (part === undefined || part.byteLength === 0) {
        if (part !== undefined)
          this.#skipped.add(path, "became shorter during the copy, and is padded with zeros");
        isCut = true;
        part = Buffer.alloc(count);
      }
      left -= part.byteLength;
      yield part;
    }
  }

  /**
   * Reads something, and skips the file if it may not be read. A file that was removed meanwhile is skipped silently.
   */
  async #try<Result>(path: BytePath, read: () => Promise<Result>): Promise<Result | undefined> {
    try {
      return await read();
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === undefined) throw error;
      if (code !== "ENOENT") this.#skipped.add(path, reasonOf(error, code));
      return undefined;
    }
  }
}

function headerOf(stats: Stats, name: BytePath): Omit<TarHeader, "type"> {
  return {
    name,
    size: 0,
    mode: stats.mode & 0o7777,
    mtimeS: Math.floor(stats.mtimeMs / 1000),
    linkname: "" as BytePath,
  };
}

type Head = { readonly bytes: Buffer; readonly size: number; readonly isWhole: boolean };

/**
 * Reads a file's first chunk. For small files the bytes that are read decide, and not the size in `stat`: it is 0 in
 * /proc and 4096 in /sys.
 */
async function readHead(file: FileHandle): Promise<Head> {
  const stats = await file.stat();
  if (!stats.isFile()) throw Object.assign(new Error("it is no longer a regular file"), { code: "EINVAL" });
  const { size } = stats;
  const parts = [await readFull(file, CHUNK_BYTES)];
  let bytes = parts[0]?.byteLength ?? 0;
  if (bytes < CHUNK_BYTES || size > bytes)
    return { bytes: Buffer.concat(parts), size, isWhole: bytes < CHUNK_BYTES };
  for (let last = bytes; last > 0; bytes += last) {
    const part = await readFull(file, CHUNK_BYTES);
    last = part.byteLength;
    parts.push(part);
    if (bytes > SIZELESS_MAX_BYTES)
      throw Object.assign(new Error("it has no size, and more than 16 MiB"), { code: "EFBIG" });
  }
  return { bytes: Buffer.concat(parts), size, isWhole: true };
}

async function readFull(file: FileHandle, count: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(count);
  let filled = 0;
  while (filled < count) {
    const { bytesRead } = await file.read(buffer, filled, count - filled, null);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return buffer.subarray(0, filled);
}

function reasonOf(error: unknown, code: string): string {
  if (code === "EACCES" || code === "EPERM") return "permission denied";
  return (error as Error).message;
}
