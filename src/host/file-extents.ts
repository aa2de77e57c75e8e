import { z } from "zod";
import { HearthError } from "#base/error.ts";

/** A part of a file that is not a hole. */
export type Extent = { readonly offset: number; readonly sizeBytes: number };

/** Smaller files are read in less time than a program is started. */
const ASK_MIN_BYTES = 16 * 1024 * 1024;
const mapSchema = z.array(
  z.object({ start: z.int().nonnegative(), length: z.int().nonnegative(), data: z.boolean() }),
);

/** Returns the map of a raw file's data, in the JSON of `qemu-img map`. */
export type MapFile = (path: string, signal: AbortSignal) => Promise<string>;

/**
 * Finds the parts of a file that may contain anything but zeros, in order. Node has no lseek(2) for SEEK_DATA, and
 * reading a hole fills the page cache with zeros; so `map` is used. If that fails, the whole file is returned, which
 * only takes longer.
 */
export async function findExtents(
  path: string,
  sizeBytes: number,
  map: MapFile,
  signal: AbortSignal,
): Promise<Extent[]> {
  const all = [{ offset: 0, sizeBytes }];
  if (sizeBytes < ASK_MIN_BYTES) return all;
  try {
    return parseMap(await map(path, signal), sizeBytes) ?? all;
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof HearthError) return all;
    throw error;
  }
}

function parseMap(text: string, sizeBytes: number): Extent[] | undefined {
  const map = mapSchema.safeParse(JSON.parse(text));
  if (!map.success) return undefined;
  return map.data
    .filter(({ data, start }) => data && start < sizeBytes)
    .map(({ start, length }) => ({ offset: start, sizeBytes: Math.min(length, sizeBytes - start) }));
}
