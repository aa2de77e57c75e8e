/** Files of the host that appear only when they are complete. */
import { randomBytes } from "node:crypto";
import { link, lstat, open, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Readable } from "node:stream";
import { HearthError } from "#base/error.ts";

export type WholeFile = {
  readonly path: string;
  /** Replaces an existing file. */
  readonly replace: boolean;
};

/**
 * Checks that the file can be made, before long work.
 * @throws HearthError `file.refused` for an existing file that may not be replaced, `file.not_found` if the directory
 * is missing
 */
export async function checkPlace({ path, replace }: WholeFile): Promise<void> {
  const existing = await explained(path, async () => {
    await stat(dirname(path));
    return lstat(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error;
      return undefined;
    });
  });
  if (existing === undefined) return;
  // A device or a link would be replaced by a file.
  if (!existing.isFile())
    throw new HearthError("file.refused", `${path} exists and is not a regular file.`, {
      hint: existing.isDirectory() ? "Name a file in it." : "Name another file, or - for stdout.",
    });
  if (!replace) throw alreadyExists(path);
}

/**
 * Writes `content` to a file that only this user may read. If it fails, no new file is left, and an old one stays.
 * @returns the number of bytes
 */
export async function writeWholeFile(
  file: WholeFile,
  content: Readable,
  onBytes: (written: number) => void,
  signal: AbortSignal,
): Promise<number> {
  const temporary = join(dirname(file.path), `.hearth-${randomBytes(6).toString("hex")}.part`);
  try {
    const bytes = await explained(file.path, () => fill(temporary, content, onBytes, signal));
    signal.throwIfAborted();
    await putInPlace(temporary, file);
    return bytes;
  } finally {
    content.destroy();
    await rm(temporary, { force: true });
  }
}

async function fill(
  temporary: string,
  content: Readable,
  onBytes: (written: number) => void,
  signal: AbortSignal,
): Promise<number> {
  await using handle = await open(temporary, "wx", 0o600);
  let bytes = 0;
  for await (const chunk of content as AsyncIterable<Buffer>) {
    signal.throwIfAborted();
    await handle.writeFile(chunk);
    bytes += chunk.byteLength;
    onBytes(bytes);
  }
  await handle.sync();
  return bytes;
}

async function putInPlace(temporary: string, { path, replace }: WholeFile): Promise<void> {
  if (replace) return rename(temporary, path);
  try {
    // A rename would replace a file that was created meanwhile.
    await link(temporary, path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") throw alreadyExists(path);
    // Not every file system has hard links.
    if (!["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"].includes(code ?? "")) throw error;
    await checkPlace({ path, replace });
    await rename(temporary, path);
  }
}

function alreadyExists(path: string): HearthError {
  return new HearthError("file.refused", `${path} already exists.`, {
    hint: "Name another file, or use --force to replace it.",
  });
}

/** Converts the errors that a user can do something about. */
async function explained<Result>(path: string, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR")
      throw new HearthError("file.not_found", `There is no directory ${dirname(path)} on this host.`, {
        hint: "Create it first.",
      });
    if (code === "EACCES" || code === "EPERM")
      throw new HearthError("file.refused", `Cannot write to ${dirname(path)}: permission denied.`, {
        hint: "Name a file in another directory.",
      });
    throw error;
  }
}
