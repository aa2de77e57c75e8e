/** A bounded log file as a stream: its last lines or all of it, and what comes after, across rotations. */
import { watch } from "node:fs";
import { open, stat } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";

export type FollowOptions = {
  /** The last so many; undefined is all. */
  readonly lines: number | undefined;
  readonly follow: boolean;
  /** Whether nothing can come any more, since the log's owner is gone. */
  readonly isOver: () => boolean;
  readonly signal: AbortSignal;
};

const CHUNK_BYTES = 64 * 1024;
/** How often to look at a file whose change may have gone unnoticed. */
const LOOK_AGAIN_MS = 1_000;

/**
 * Ends with the file's end, or with `follow` when the owner is gone. A file that is rotated away is read to its end
 * before the one that has taken its place.
 * @throws the reason of `signal`
 */
export async function* followLog(path: string, options: FollowOptions): AsyncGenerator<Uint8Array> {
  // The part that was rotated away comes first; a log that was never rotated has none.
  if (options.lines === undefined) yield* readWhole(`${path}.1`);
  let position = options.lines === undefined ? 0 : await lastLinesStart(path, options.lines);
  await using log = new OpenFile(path);
  while (!options.signal.aborted) {
    // Asked before the last reading: what the owner wrote before it went is read.
    const isOver = !options.follow || options.isOver();
    // The watch stands before the reading, so that nothing falls between.
    const change = isOver ? undefined : changed(path, options.signal);
    const file = await log.current();
    if (file !== undefined) {
      if ((await file.stat()).size < position) position = 0; // It was cut short.
      // Asked before the reading: whatever the file is by then, nobody writes to it any more after its rotation.
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

/** The file at a path, which stays open when another one takes its place. */
class OpenFile implements AsyncDisposable {
  readonly #path: string;
  #file: FileHandle | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  /** Undefined as long as there is none. */
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

/** Where the last `lines` lines begin, reading from the end. */
async function lastLinesStart(path: string, lines: number): Promise<number> {
  const file = await openIfThere(path);
  if (file === undefined) return 0;
  await using handle = file;
  let { size: end } = await handle.stat();
  let found = -1; // The line break that ends the last line does not begin one.
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
      // Not there (yet): the timer looks again.
    }
    signal.addEventListener("abort", done, { once: true });
  });
}
