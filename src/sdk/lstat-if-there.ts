import { lstat } from "node:fs/promises";
import type { Stats } from "node:fs";

/** What lies at `path`, itself and not what it links to; undefined when nothing does. */
export async function lstatIfThere(path: string): Promise<Stats | undefined> {
  try {
    return await lstat(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw error;
  }
}
