import { z } from "zod";
import { run } from "#host/run.ts";

/** A part of a file that is not a hole. */
export type Extent = { readonly offset: number; readonly sizeBytes: number };

/** Less is read sooner than a program is started. */
const ASK_MIN_BYTES = 16 * 1024 * 1024;
const TIMEOUT_MS = 60_000;
const mapSchema = z.array(
  z.object({ start: z.int().nonnegative(), length: z.int().nonnegative(), data: z.boolean() }),
);

/**
 * Where a file may have something else than zeros, in order. Node has no lseek(2) for SEEK_DATA, and reading a hole
 * fills the page cache with its zeros; so `qemu-img` looks. Where it is not there, or cannot say, that is everywhere.
 */
export async function findExtents(path: string, sizeBytes: number, signal: AbortSignal): Promise<Extent[]> {
  const all = [{ offset: 0, sizeBytes }];
  if (sizeBytes < ASK_MIN_BYTES) return all;
  // Raw, whatever the content says of itself; shared, because VMMs may have it open.
  const args = ["map", "--force-share", "--output=json", "-f", "raw", path];
  const asked = await run("qemu-img", args, { timeoutMs: TIMEOUT_MS, signal });
  signal.throwIfAborted();
  return (asked.ok ? parseMap(asked.stdout, sizeBytes) : undefined) ?? all;
}

function parseMap(text: string, sizeBytes: number): Extent[] | undefined {
  const map = mapSchema.safeParse(JSON.parse(text));
  if (!map.success) return undefined;
  return map.data
    .filter(({ data, start }) => data && start < sizeBytes)
    .map(({ start, length }) => ({ offset: start, sizeBytes: Math.min(length, sizeBytes - start) }));
}
