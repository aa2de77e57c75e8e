/**
 * Reads a bounded log file as a stream: its last lines or all of it, and then the lines that follow, across rotations.
 */
import { watch } from "node:fs";
import { open, stat } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";

export type FollowOptions = {
  /** The number of last lines; undefined for all. */
  readonly lines: number | undefined;
  readonly follow: boolean;
  /** True when no more lines can come, because the log's owner has ended. */
  readonly isOver: () => boolean;
  readonly signal: AbortSignal;
};

const CHUNK_BYTES = 64 * 1024;
/** The time after which the file is read again even without a change event. */
const LOOK_AGAIN_MS = 1_000;

/**
 * Yields the log's bytes. Ends at the end of the file, or with `follow` when the owner has ended. A file that is
 * rotated is read to its end before its successor.
 * @throws the reason of `signal`
 */
export async function* followLog(path: string, options: FollowOptions): AsyncGenerator<Uint8Array> {
  // The rotated part comes first; a log that was never rotated has none.
  if (options.lines === undefined) yield* readWhole(`${path}.1`);
  let position = options.lines === undefined ? 0 : await lastLinesStart(path, options.lines);
  await using log = new OpenFile(path);
  while (!options.signal.aborted) {
    // Evaluated before the last read, so that everything the owner wrote is read.
    const isOver = !options.follow || options.isOver();
    // Watches before the read, so that no change is missed between the two.
    const change = isOver ? undefined : changed(path, options.signal);
    const file = await log.current();
    if (file !== undefined) {
      if ((await file.stat()).size < position) position = 0; // The file was truncated.
      // Evaluated before the read: a rotated file is not written to any more, so this read is its last.
      const isRotated = await log.isRotated();
      for await (const chunk of readFrom(file, position)) {
        position += chunk.length;
        yield chunk;
      }
      if (isRotated) {
        await log.close();
        position = 0;
        continue;
      }
    }
    if (change === undefined) return;
    await change;
  }
  options.signal.throwIfAborted();
}

/** The file at a path. It stays open when another file takes its place. */
class OpenFile implements AsyncDisposable {
  readonly #path: string;
  #file: FileHandle | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  /** Returns undefined as long as the file does not exist. */
  async current(): Promise<FileHandle | undefined> {
    return (this.#file ??= await openIfThere(this.#path));
  }

  async isRotated(): Promise<boolean> {
    const there = await stat(this.#path).catch(ignoreMissing);
    return there !== undefined && there.ino !== (await this.#file?.stat())?.ino;
  }

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function ignoreMissing(error: unknown): undefined {
  if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
}

async function* readWhole(path: string): AsyncIterable<Uint8Array> {
  const file = await openIfThere(path);
  if (file === undefined) return;
  await using handle = file;
  yield* readFrom(handle, 0);
}

async function* readFrom(file: FileHandle, start: number): AsyncIterable<Uint8Array> {
  for (let position = start; ;) {
    const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(CHUNK_BYTES), 0, CHUNK_BYTES, position);
    if (bytesRead === 0) return;
    position += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

/** Returns the offset at which the last `lines` lines begin. Reads from the end. */
async function lastLinesStart(path: string, lines: number): Promise<number> {
  const file = await openIfThere(path);
  if (file === undefined) return 0;
  await using handle = file;
  let { size: end } = await handle.stat();
  let found = -1; // Skips the line break at the very end, which begins no line.
  while (end > 0) {
    const start = Math.max(0, end - CHUNK_BYTES);
    const { buffer, bytesRead } = await handle.read(Buffer.allocUnsafe(end - start), 0, end - start, start);
    for (let index = bytesRead - 1; index >= 0; index--) {
      if (buffer[index] === 0x0a && ++found >= lines) return start + index + 1;
    }
    end = start;
  }
  return 0;
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  return open(path, "r").catch(ignoreMissing);
}

/** Resolves when the file may have changed. */
function changed(path: string, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      watcher?.close();
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, LOOK_AGAIN_MS);
    let watcher: ReturnType<typeof watch> | undefined;
    try {
      watcher = watch(path, done);
      watcher.on("error", done);
    } catch {
      // The file does not exist (yet): the timer fires instead.
    }
    signal.addEventListener("abort", done, { once: true });
  });
}
