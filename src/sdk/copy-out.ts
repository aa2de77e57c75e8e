/** Copies a file or directory of a guest to the host, by the rules of `docker cp`. */
import { realpath, stat } from "node:fs/promises";
import { basename, dirname, posix, resolve } from "node:path";
import { HearthError } from "#base/error.ts";
import { bytePath, bytePathOf, joinBytes, kindOf, lstatBytes } from "#sdk/byte-path.ts";
import type { BytePath } from "#sdk/byte-path.ts";
import type { HearthVm } from "#sdk/hearth-vm.ts";
import { SkippedFiles } from "#sdk/skipped-files.ts";
import type { OnSkip } from "#sdk/skipped-files.ts";
import { unpackTree } from "#sdk/tar-unpack.ts";
import type { TreeKind } from "#sdk/tar-unpack.ts";

export type CopyOutOptions = {
  /** The directory that a relative host path starts from; by default that of the process. */
  readonly cwd?: string | undefined;
  /** Called for each file that is skipped: devices, FIFOs, sockets, and files that cannot be read. */
  readonly onSkip?: OnSkip | undefined;
};

/**
 * Copies a guest's files to the host, by the rules of `hearth cp`. The guest is not trusted. Files that cannot be
 * copied are skipped.
 * @throws HearthError `file.skipped` if some were skipped and all others were copied.
 */
export async function copyOut(
  vm: HearthVm,
  guestPath: string,
  hostPath: string,
  { cwd = process.cwd(), onSkip }: CopyOutOptions = {},
  signal?: AbortSignal,
): Promise<void> {
  const destination = resolve(cwd, hostPath);
  const meansDirectory = hostPath.endsWith("/") || /(^|\/)\.\.?$/.test(hostPath);
  const skipped = new SkippedFiles(onSkip);
  const tar = await vm.readTar(guestPath, signal);
  try {
    const find = (kind: TreeKind, sentName: BytePath): Promise<BytePath> =>
      place(kind, sentName, { guestPath, destination, meansDirectory });
    await unpackTree(tar, find, skipped, signal);
  } finally {
    tar.on("error", () => undefined); // The rest is cut off.
    tar.destroy();
  }
  skipped.throwIfAny();
}

type Asked = { readonly guestPath: string; readonly destination: string; readonly meansDirectory: boolean };

/**
 * Returns the host path for the root of the tree. Its name is the one that was asked for; only where there is none,
 * such as for `..`, is it the guest's.
 */
async function place(
  kind: TreeKind,
  sentName: BytePath,
  { guestPath, destination, meansDirectory }: Asked,
): Promise<BytePath> {
  const requested = posix.basename(posix.normalize(guestPath));
  const name = requested === "." || requested === ".." || requested === "" ? sentName : bytePath(requested);
  const existing = await findKind(destination);
  if (existing === "directory") {
    const contents = kind === "directory" && /(^|\/)\.\/?$/.test(guestPath) && guestPath !== ".";
    if (contents || name === "") return bytePath(destination);
    return joinBytes(bytePath(destination), name);
  }
  if (existing === "missing") {
    if (kind !== "directory" && meansDirectory) throw missing(destination);
    if ((await findKind(dirname(destination))) !== "directory") throw missing(dirname(destination));
    return bytePath(destination);
  }
  if (kind === "directory" || meansDirectory)
    throw refused(`${basename(destination)} is a file, and cannot be replaced by a directory`);
  // A destination that is a link is followed, as `cp` does.
  return bytePathOf(await realpath(destination, "buffer"));
}

async function findKind(path: string): Promise<"directory" | "file" | "missing"> {
  try {
    const stats = await stat(path);
    if (stats.isDirectory()) return "directory";
    if (stats.isFile()) return "file";
    throw refused(`${path} is ${kindOf(stats)}, which is never replaced`);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT" && code !== "ENOTDIR") throw error;
    if ((await lstatBytes(bytePath(path))) === undefined) return "missing";
    throw refused(`${path} is a symbolic link to a path that does not exist`);
  }
}

function refused(what: string): HearthError {
  return new HearthError("file.refused", `${what}.`, {
    hint: "Choose another destination, or remove it first. `-` writes a tar stream to stdout.",
  });
}

function missing(path: string): HearthError {
  return new HearthError("file.not_found", `There is no directory ${path} on this host.`, {
    hint: "Create it first.",
  });
}
