import { statfs } from "node:fs/promises";

/** Returns the bytes that this user may still write to the file system of an existing directory. */
export async function freeBytes(dir: string): Promise<number> {
  const { bavail, bsize } = await statfs(dir);
  return bavail * bsize;
}
