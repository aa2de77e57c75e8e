/** Makes a writable ext4 with the content of a directory, written directly into a file: no loop device and no root. */
import { stat } from "node:fs/promises";
import { HearthError, toHearthError } from "#base/error.ts";
import { GIB, MIB } from "#base/sizes.ts";
import { runWithDeathSignal, runWithDeathSignalOrThrow } from "#host/run-with-death-signal.ts";
import type { RunResult } from "#host/run.ts";

/** Enough to copy a large directory from a slow disk. */
const TIMEOUT_MS = 3_600_000;
const BLOCK_BYTES = 4096;
const INODE_BYTES = 256;
/** The journal, tables and directories that grow, in addition to the files. */
const OWN_BYTES = 24 * MIB;
/** mke2fs' own ratio for such disks. */
const BYTES_PER_INODE = 32_768;

/** The space that a directory takes in an ext4, and its number of files. */
export type TreeSize = { readonly bytes: number; readonly inodes: number };

/**
 * Measures the space that a directory needs in an ext4. Holes are counted in full: the size is only used to choose a
 * disk's size, and the disk is sparse.
 */
export async function measureTree(tree: string, signal: AbortSignal): Promise<TreeSize> {
  const du = async (...args: string[]): Promise<number> =>
    Number.parseInt(
      await runWithDeathSignalOrThrow("du", ["-s", ...args, "--", tree], { timeoutMs: TIMEOUT_MS, signal }),
      10,
    );
  const inodes = await du("--inodes");
  // Apparent sizes, because the host's file system may compress, and ext4 does not. Each file fills its last block.
  const content = (await du("-B", "1", "--apparent-size")) + inodes * BLOCK_BYTES;
  return { bytes: content + Math.ceil(content / 16) + inodes * INODE_BYTES + OWN_BYTES, inodes };
}

/**
 * Fills the existing file `disk` with an ext4 that contains the content of `tree`: names, modes, owners, links, times
 * and extended attributes are kept. Links are never followed.
 * @throws HearthError `input.invalid` if the content does not fit, `file.refused` if some of it cannot be read
 */
export async function makeDiskFromTree(
  disk: string,
  tree: string,
  sizes: { readonly sizeBytes: number; readonly maxBytes: number; readonly inodes: number },
  signal: AbortSignal,
): Promise<void> {
  const { sizeBytes, maxBytes, inodes } = sizes;
  const { uid, gid, mode } = await stat(tree);
  const own = `lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=${uid}:${gid}`;
  // Reserves tables for growing up to `maxBytes` and no further: mke2fs writes them out.
  const growth =
    sizeBytes < maxBytes
      ? ["-E", `${own},resize=${Math.floor(maxBytes / BLOCK_BYTES)}`]
      : ["-E", own, "-O", "^resize_inode"];
  const inodeCount = Math.max(Math.ceil(sizeBytes / BYTES_PER_INODE), Math.ceil(inodes * 1.25) + 1_024);
  const journalMib = sizeBytes < GIB ? 4 : 16;
  const args = ["-q", "-F", "-t", "ext4", "-b", String(BLOCK_BYTES), "-m", "0", "-N", String(inodeCount)];
  const size = `${Math.floor(sizeBytes / 1024)}k`;
  const options = { timeoutMs: TIMEOUT_MS, signal };
  const made = await runWithDeathSignal(
    "mke2fs",
    [...args, "-J", `size=${journalMib}`, ...growth, "-d", tree, disk, size],
    options,
  );
  if (!made.ok) throw describe(made, tree);
  // mke2fs sets its own mode on the root, whatever the directory's.
  const request = `set_inode_field / mode 0${((mode & 0o7777) | 0o40000).toString(8)}`;
  const set = await runWithDeathSignal("debugfs", ["-w", "-R", request, disk], options);
  if (!set.ok) throw set.error;
  // debugfs' exit code says nothing. Its first line is its version; any further line is an error.
  const complaint = set.stderr.split("\n").slice(1).join(" ").trim();
  if (complaint !== "")
    throw new HearthError("host.tool_failed", "debugfs could not set the mode of the disk's root", {
      cause: new Error(complaint),
    });
}

/** Maps mke2fs' messages that the user can act on. */
function describe(made: Extract<RunResult, { ok: false }>, tree: string): HearthError {
  const { stderr, error } = made;
  if (error.code !== "host.tool_failed") return error;
  if (/Could not allocate (block|inode)/i.test(stderr))
    return new HearthError("input.invalid", `size: the content of ${tree} does not fit.`, {
      hint: "Choose a larger size, or leave it out.",
    });
  if (/Permission denied/i.test(stderr))
    return new HearthError("file.refused", `hearthd cannot read all of ${tree}: permission denied.`, {
      hint: "Make it readable for the user of hearthd.",
      cause: error.cause,
    });
  const code = /No space left on device/i.test(stderr)
    ? "ENOSPC"
    : /Read-only file system/i.test(stderr)
      ? "EROFS"
      : undefined;
  return code === undefined ? error : toHearthError(Object.assign(new Error(error.message), { code }));
}
