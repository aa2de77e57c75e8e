/** Files that Firecracker has written, in a directory where it may do what it likes. */
import { constants } from "node:fs";
import { chmod, open, rm } from "node:fs/promises";
import { HearthError } from "#base/error.ts";
import { formatSizeRounded } from "#base/sizes.ts";
import { syncPath } from "#host/atomic-file.ts";
import { copySparse } from "#host/copy-sparse.ts";

const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
/** VMMs with other uids are shown the files; from everybody else their directory keeps them. */
const MODE = 0o444;

/**
 * Copies the file to `to`, where nothing is yet, and removes it; the copy is on the disk when this resolves. A rename
 * would do, but for a VMM that still has the file open and changes what others map: nobody has had the copy open. Zeros
 * take no room in it.
 * @throws HearthError `vmm.failed` for a link, all else that is no file, and one of more than `maxBytes`
 */
export async function takeFile(
  draft: string,
  to: string,
  maxBytes: number,
  signal: AbortSignal,
): Promise<void> {
  await using file = await open(draft, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  const seen = await file.stat();
  if (!seen.isFile()) throw new HearthError("vmm.failed", `Firecracker left no file at ${draft}.`);
  if (seen.size > maxBytes) {
    const [has, may] = [seen.size, maxBytes].map(formatSizeRounded);
    throw new HearthError("vmm.failed", `Firecracker has written ${has} to ${draft}, and may write ${may}.`);
  }
  // What is open, whatever the directory shows by now.
  await copySparse(`/proc/${process.pid}/fd/${file.fd}`, to, signal);
  await chmod(to, MODE);
  await syncPath(to);
  await rm(draft);
}
