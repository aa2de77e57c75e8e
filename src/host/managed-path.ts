/** Deletes files and directories. Hearth deletes in no other way: the path is first proven to be inside its root. */
import { lstatSync, realpathSync } from "node:fs";
import { rm } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, normalize, sep } from "node:path";
import { HearthError } from "#base/error.ts";
import { readMounts } from "#host/mounts.ts";

/**
 * Removes the file, link or directory at `path`. Links are removed, never followed. Idempotent.
 * @throws HearthError `path.unmanaged`, and removes nothing, unless `path` is strictly inside `root` with all links on
 * the way resolved, and no file system is mounted at or below it
 */
export async function removeTree(root: string, path: string): Promise<void> {
  const real = resolveManaged(root, path);
  if (real === undefined) return;
  const mounted = readMounts().find(({ point }) => point === real || point.startsWith(real + sep));
  if (mounted !== undefined) throw refusal(path, `a file system is mounted at ${mounted.point}`);
  // Retries, because programs that were just killed may still write a last file.
  await rm(real, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
}

/** Returns the resolved path, or undefined if nothing exists there. The last part is not followed. */
function resolveManaged(root: string, path: string): string | undefined {
  if (!isAbsolute(root) || normalize(root) === sep)
    throw refusal(path, "its root is not a directory of Hearth");
  if (!isAbsolute(path)) throw refusal(path, "it is not an absolute path");
  if (path.includes("\0") || path.split(sep).includes(".."))
    throw refusal(path, "it has empty parts, . or ..");
  const realRoot = realpathIfThere(root);
  const plain = normalize(path).replace(/\/+$/, "");
  const parent = realpathIfThere(dirname(plain));
  if (realRoot === undefined || parent === undefined) {
    if (isInside(normalize(root), plain)) return undefined;
    throw refusal(path, `it is not inside ${root}`);
  }
  const real = join(parent, basename(plain));
  if (!isInside(realRoot, real)) throw refusal(path, `it is not inside ${root}`);
  return lstatSync(real, { throwIfNoEntry: false }) === undefined ? undefined : real;
}

function isInside(root: string, path: string): boolean {
  return path.startsWith(root.endsWith(sep) ? root : root + sep) && path.length > root.length + 1;
}

function realpathIfThere(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

function refusal(path: string, reason: string): HearthError {
  return new HearthError("path.unmanaged", `${JSON.stringify(path)} is not removed: ${reason}.`, {
    hint: "Nothing was removed. If this path is in Hearth's own state, please report it.",
  });
}
