import { randomBytes } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { failAfter } from "#base/clean-up.ts";

/**
 * Writes a file atomically: readers see the old file or the whole new one, also after a power cut. The mode is 0644
 * less the umask.
 */
export async function writeFileAtomic(path: string, content: string | Uint8Array): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString("hex")}.new`;
  try {
    await using file = await open(temporary, "wx", 0o644);
    await file.writeFile(content);
    await file.sync();
    await rename(temporary, path);
  } catch (error) {
    await failAfter(error, () => rm(temporary, { force: true }));
  }
  await syncPath(dirname(path));
}

/** Calls fsync(2) on a file, or on a directory to sync its entries. */
export async function syncPath(path: string): Promise<void> {
  await using handle = await open(path, "r");
  await handle.sync();
}
