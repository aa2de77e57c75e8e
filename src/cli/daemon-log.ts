import { open } from "node:fs/promises";
import { watch } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import type { Folders } from "#base/folders.ts";

const CHUNK_BYTES = 64 * 1024;

/** hearthd's own log, as docs/on-disk.md has it. */
export function daemonLogPath(folders: Folders): string {
  return join(folders.state, "hearthd.log");
}

/** The log's last lines, or all of it, and what comes after; undefined when there is none. */
export async function openDaemonLog(
  folders: Folders,
  options: { readonly lines: number | undefined; readonly follow: boolean },
): Promise<Readable | undefined> {
  const path = daemonLogPath(folders);
  try {
    await (await open(path, "r")).close();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  const start = options.lines === undefined ? 0 : await startOfLast(path, options.lines);
  return Readable.from(read(path, start, options.follow), { objectMode: false });
}

async function* read(path: string, start: number, follow: boolean): AsyncGenerator<Uint8Array> {
  let position = start;
  for (;;) {
    const change = follow ? changed(path) : undefined;
    await using file = await open(path, "r");
    // A new file has taken its place: hearthd keeps its log short.
    if ((await file.stat()).size < position) position = 0;
    for (;;) {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(CHUNK_BYTES), 0, CHUNK_BYTES, position);
      if (bytesRead === 0) break;
      position += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
    if (change === undefined) return;
    await change;
  }
}

/** The watch stands before the file is read, so that nothing falls between. */
function changed(path: string): Promise<void> {
  return new Promise((resolve) => {
    const watcher = watch(path, () => {
      watcher.close();
      resolve();
    });
  });
}

async function startOfLast(path: string, lines: number): Promise<number> {
  await using file = await open(path, "r");
  let position = (await file.stat()).size;
  let wanted = lines + 1;
  while (position > 0) {
    const length = Math.min(CHUNK_BYTES, position);
    const { buffer } = await file.read(Buffer.alloc(length), 0, length, position - length);
    for (let at = length - 1; at >= 0; at--) {
      if (buffer[at] === 10 && --wanted === 0) return position - length + at + 1;
    }
    position -= length;
  }
  return 0;
}
