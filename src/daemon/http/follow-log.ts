/** A bounded log file as a stream: its last lines or all of it, and what comes after, across rotations. */
import { watch } from "node:fs";
import { open } from "node:fs/promises";
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

/** Ends with the file's end, or with `follow` when the owner is gone. @throws the reason of `signal` */
export async function* followLog(path: string, options: FollowOptions): AsyncIterable<Uint8Array> {
  // The part that was rotated away comes first; a log that was never rotated has none.
  if (options.lines === undefined) yield* readWhole(`${path}.1`);
  let position = options.lines === undefined ? 0 : await lastLinesStart(path, options.lines);
  let inode: number | undefined;
  while (!options.signal.aborted) {
    const file = await openIfThere(path);
    if (file !== undefined) {
      await using handle = file;
      const { ino, size } = await handle.stat();
      if ((inode !== undefined && ino !== inode) || size < position) position = 0; // A new file, or cut short.
      inode = ino;
      for await (const chunk of readFrom(handle, position)) {
        position += chunk.length;
        yield chunk;
      }
    }
    if (!options.follow || options.isOver()) return;
    await changed(path, options.signal);
  }
  options.signal.throwIfAborted();
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
  try {
    return await open(path, "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
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
