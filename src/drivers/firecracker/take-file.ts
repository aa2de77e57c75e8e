/** Copies a file that Firecracker has written, from a directory in which Firecracker may change anything. */
import { constants } from "node:fs";
import { chmod, open, rm } from "node:fs/promises";
import { HearthError } from "#base/error.ts";
import { formatSizeRounded } from "#base/sizes.ts";
import { syncPath } from "#host/atomic-file.ts";
import { copySparse } from "#host/copy-sparse.ts";

const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
/** VMMs with other uids are shown the files; the directory keeps everybody else out. */
const MODE = 0o444;

/**
 * Copies the file to `to`, which does not exist yet, syncs the copy and removes the file. A rename would not do: the
 * VMM still has the file open, and could change what other VMMs map. Blocks of zeros become holes.
 * @throws HearthError `vmm.failed` for a link, for anything else that is not a file, and for a file of more than
 * `maxBytes`
 */
export async function takeFile(
  draft: string,
  to: string,
  maxBytes: number,
  signal: AbortSignal,
): Promise<void> {
  await using file = await open(draft, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  const seen = await file.stat();
  if (!seen.isFile()) throw new HearthError("vmm.failed", `Firecracker did not write ${draft}.`);
  if (seen.size > maxBytes) {
    const [has, may] = [seen.size, maxBytes].map(formatSizeRounded);
    throw new HearthError("vmm.failed", `Firecracker has written ${has} to ${draft}; the limit is ${may}.`);
  }
  // Copies the open file, even if the directory shows another one by now.
  await copySparse(`/proc/${process.pid}/fd/${file.fd}`, to, signal);
  await chmod(to, MODE);
  await syncPath(to);
  await rm(draft);
}
