import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Io } from "#cli/io.ts";

/** Writes a stream to stdout unchanged, no faster than it is read. */
export async function printStream(io: Io, from: Readable, signal?: AbortSignal): Promise<void> {
  await pipeline(from, io.stdout, { end: false, ...(signal && { signal }) });
}
