/** Makes ext4 file systems, written directly into files: no loop device and no root. */
import { mkdir } from "node:fs/promises";
import { toHearthError } from "#base/error.ts";
import type { HearthError } from "#base/error.ts";
import { GIB } from "#base/sizes.ts";
import { runWithDeathSignal, runWithDeathSignalOrThrow } from "#host/run-with-death-signal.ts";
import { run } from "#host/run.ts";

const TIMEOUT_MS = 300_000;
const BLOCK_BYTES = 4096;

/** The size of a tree, as counted by `du`. */
type TreeSize = { readonly blocks: number; readonly inodes: number };

/**
 * Makes a read-only file system with the content of `tree`: no journal, no reserve, little slack. Needs the right to
 * read all of the tree, and keeps its owners.
 * @param uuid of the file system; it also seeds the hashed directories, so that equal trees give nearly equal files
 */
export async function makeImageFromTree(
  tree: string,
  image: string,
  uuid: string,
  signal: AbortSignal,
): Promise<void> {
  const options = { timeoutMs: TIMEOUT_MS, signal };
  const blocks = await runWithDeathSignalOrThrow("du", ["-s", "-B", String(BLOCK_BYTES), tree], options);
  const inodes = await runWithDeathSignalOrThrow("du", ["-s", "--inodes", tree], options);
  const size = { blocks: Number.parseInt(blocks, 10), inodes: Number.parseInt(inodes, 10) };
  await mke2fs(
    [...readOnlyArgs(String(size.inodes + 512), uuid), "-d", tree, image, String(imageBlocks(size))],
    signal,
  );
}

/**
 * Makes the file system from a tar file, for users who are not root: the tar is unpacked with the user's subordinate
 * ids on a tmpfs in a new mount namespace, so that nothing of it remains, even after a crash. Needs `uidmap`.
 */
export async function makeImageFromTar(
  tar: string,
  image: string,
  uuid: string,
  signal: AbortSignal,
): Promise<void> {
  const mountPoint = `${tar}.tree`;
  await mkdir(mountPoint);
  // The sizes are only known inside. `$0` to `$3` are the tar, the image, the uuid and the mount point.
  const mkfs = readOnlyArgs('"$((inodes + 512))"', '"$2"').join(" ");
  const script = [
    "set -e",
    'mount -t tmpfs -o mode=0755 tmpfs "$3"',
    `tar -x -p --numeric-owner --xattrs --xattrs-include='*' -C "$3" -f "$0"`,
    `blocks=$(du -s -B ${BLOCK_BYTES} "$3" | cut -f1); inodes=$(du -s --inodes "$3" | cut -f1)`,
    `mke2fs ${mkfs} -d "$3" "$1" "$((blocks + blocks / 16 + inodes / 8 + 2048))"`,
  ].join("\n");
  const args = [
    "--map-auto",
    "--map-root-user",
    "--mount",
    "--",
    "sh",
    "-c",
    script,
    tar,
    image,
    uuid,
    mountPoint,
  ];
  const result = await runWithDeathSignal("unshare", args, { timeoutMs: TIMEOUT_MS, signal });
  if (!result.ok) throw describe(result.error, result.stderr, image);
}

/**
 * Makes an empty ext4, fast and small: the guest writes tables and journal when it needs them.
 * @param sizes in bytes; tables are reserved for growing online up to `maxBytes`, and no further, because mke2fs writes
 * them out: its own default takes 4 MiB
 */
export async function makeEmptyDisk(
  path: string,
  sizes: { readonly sizeBytes: number; readonly maxBytes: number },
  signal: AbortSignal,
): Promise<void> {
  const { sizeBytes, maxBytes } = sizes;
  const extended = "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0";
  const growth =
    sizeBytes < maxBytes
      ? ["-E", `${extended},resize=${Math.floor(maxBytes / BLOCK_BYTES)}`]
      : ["-E", extended, "-O", "^resize_inode"];
  const journalMib = sizeBytes < GIB ? 4 : 16;
  const args = ["-q", "-F", "-t", "ext4", "-b", String(BLOCK_BYTES), "-m", "0", "-i", "32768"];
  const size = `${Math.floor(sizeBytes / 1024)}k`;
  await mke2fs([...args, "-J", `size=${journalMib}`, ...growth, path, size], signal);
}

function readOnlyArgs(inodes: string, uuid: string): string[] {
  const features = "^has_journal,^resize_inode,^huge_file";
  const args = ["-q", "-F", "-t", "ext4", "-b", String(BLOCK_BYTES), "-I", "256", "-m", "0"];
  return [...args, "-N", inodes, "-O", features, "-U", uuid, "-E", `nodiscard,hash_seed=${uuid}`];
}

/** Returns the blocks of an image: inodes take 256 bytes; maps, growing directories and rounding take the rest. */
function imageBlocks(size: TreeSize): number {
  return size.blocks + Math.ceil(size.blocks / 16) + Math.ceil(size.inodes / 8) + 2_048;
}

async function mke2fs(args: readonly string[], signal: AbortSignal, by = run): Promise<void> {
  const result = await by("mke2fs", args, { timeoutMs: TIMEOUT_MS, signal });
  if (!result.ok) throw describe(result.error, result.stderr, args.at(-2) ?? "");
}

/** Gives mke2fs' messages the form of system call errors, so that users see one message for both. */
function describe(error: HearthError, stderr: string, path: string): HearthError {
  const code = /No space left on device/i.test(stderr)
    ? "ENOSPC"
    : /Read-only file system/i.test(stderr)
      ? "EROFS"
      : undefined;
  return code === undefined ? error : toHearthError(Object.assign(new Error(error.message), { code, path }));
}
