import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Io } from "#cli/io.ts";

/** Writes a stream to stdout as it is, no faster than it is taken. */
export async function printStream(io: Io, from: Readable, signal?: AbortSignal): Promise<void> {
  await pipeline(from, io.stdout, { end: false, ...(signal && { signal }) });
}
