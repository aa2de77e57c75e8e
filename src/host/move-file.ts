import { lstat, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { withCleanUp } from "#base/clean-up.ts";
import { HearthError } from "#base/error.ts";
import { syncPath } from "#host/atomic-file.ts";
import { copySparse } from "#host/copy-sparse.ts";

/**
 * Moves a file. On another file system it is copied first, so that `to` is always the old file or the whole new one. No
 * other program may change the directory of `from` any more; its content is not trusted.
 * @param durable whether the move has to survive a power cut when this resolves
 * @throws HearthError `path.unmanaged` for links and everything else that is not a regular file
 */
export async function moveFile(
  from: string,
  to: string,
  durable: boolean,
  signal: AbortSignal,
): Promise<void> {
  if (!(await lstat(from)).isFile())
    throw new HearthError("path.unmanaged", `Cannot move ${from}: it is not a regular file.`);
  if (durable) await syncPath(from);
  try {
    await rename(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EXDEV") throw error;
    await copyOver(from, to, durable, signal);
  }
  if (durable) await syncPath(dirname(to));
}

async function copyOver(from: string, to: string, durable: boolean, signal: AbortSignal): Promise<void> {
  const copy = `${to}.new`;
  await rm(copy, { force: true });
  const move = async (): Promise<void> => {
    await copySparse(from, copy, signal);
    if (durable) await syncPath(copy);
    await rename(copy, to);
  };
  await withCleanUp(move, () => rm(copy, { force: true }));
  await rm(from);
}
