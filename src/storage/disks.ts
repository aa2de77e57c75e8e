/** VMs' writable disks: sparse files with an empty ext4, which store what the guest writes. */
import { randomBytes } from "node:crypto";
import { open, rename, rm, stat, truncate } from "node:fs/promises";
import { dirname } from "node:path";
import { failAfter } from "#base/clean-up.ts";
import { HearthError } from "#base/error.ts";
import { syncPath } from "#host/atomic-file.ts";
import { makeEmptyDisk } from "#host/mke2fs.ts";
import { LIMITS } from "#model/limits.ts";

const STAT_BLOCK_BYTES = 512;

export type DiskUsage = {
  /** The bytes that it takes on the host's disk. */
  readonly allocatedBytes: number;
  /** The size that the guest sees. */
  readonly sizeBytes: number;
};

/**
 * Makes a disk, completely or not at all; durable when it returns. Replaces an existing one: callers own their paths.
 */
export async function createDisk(path: string, sizeBytes: number, signal: AbortSignal): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString("hex")}.new`;
  try {
    // Made here, so that others never have access to what guests write.
    await using file = await open(temporary, "wx", 0o600);
    await file.truncate(sizeBytes);
    await makeEmptyDisk(temporary, { sizeBytes, maxBytes: LIMITS.diskMaxBytes }, signal);
    await file.sync();
    await rename(temporary, path);
    await syncPath(dirname(path));
  } catch (error) {
    await failAfter(error, () => rm(temporary, { force: true }));
  }
}

/**
 * Makes the disk larger; its file system grows at the guest's next start. Equal sizes change nothing.
 * @throws HearthError `input.invalid` for a smaller size: the guest's data would be cut off
 */
export async function growDisk(path: string, sizeBytes: number): Promise<void> {
  const { size } = await stat(path);
  if (sizeBytes < size) {
    throw new HearthError("input.invalid", `disk: it has ${size} bytes and cannot shrink to ${sizeBytes}.`, {
      hint: "Choose a larger size, or create a new VM.",
    });
  }
  if (sizeBytes === size) return;
  await truncate(path, sizeBytes);
  await syncPath(path);
}

/** Returns what the disk takes now, and the most it can take. */
export async function diskUsage(path: string): Promise<DiskUsage> {
  const { blocks, size } = await stat(path);
  return { allocatedBytes: blocks * STAT_BLOCK_BYTES, sizeBytes: size };
}
