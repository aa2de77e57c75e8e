/** Copies files and directories of the host into a guest, by the rules of `docker cp`. */
import { lstat, realpath, stat } from "node:fs/promises";
import { basename, posix, resolve } from "node:path";
import { Readable } from "node:stream";
import { HearthError } from "#base/error.ts";
import { bytePath, bytePathOf } from "#sdk/byte-path.ts";
import type { BytePath } from "#sdk/byte-path.ts";
import { findGuestPlace } from "#sdk/guest-path.ts";
import type { HearthVm } from "#sdk/hearth-vm.ts";
import { SkippedFiles } from "#sdk/skipped-files.ts";
import type { OnSkip } from "#sdk/skipped-files.ts";
import { packTrees } from "#sdk/tar-pack.ts";
import type { Root } from "#sdk/tar-pack.ts";

export type CopyInOptions = {
  /** Creates the destination directory, and those above it. */
  readonly parents?: boolean | undefined;
  /** The directory that relative host paths start from; by default that of the process. */
  readonly cwd?: string | undefined;
  /** Called for each file that is skipped: devices, FIFOs, sockets, and files that cannot be read. */
  readonly onSkip?: OnSkip | undefined;
};

type Source = Root & {
  readonly isDirectory: boolean;
  /** True if the directory's content is copied without the directory itself. */
  readonly contents: boolean;
};

/**
 * Copies host files into a guest, by the rules of `hearth cp`. Files that cannot be copied are skipped.
 * @throws HearthError `file.skipped` if some were skipped and all others were copied.
 */
export async function copyIn(
  vm: HearthVm,
  hostPaths: readonly string[],
  guestPath: string,
  options: CopyInOptions = {},
  signal?: AbortSignal,
): Promise<void> {
  const { directory, roots } = await plan(vm, hostPaths, guestPath, options, signal);
  const skipped = new SkippedFiles(options.onSkip);
  const tar = Readable.from(packTrees(roots, skipped, signal), { objectMode: false });
  await vm.writeTar(directory, tar, { parents: options.parents }, signal);
  skipped.throwIfAny();
}

async function plan(
  vm: HearthVm,
  hostPaths: readonly string[],
  guestPath: string,
  { parents = false, cwd = process.cwd() }: CopyInOptions,
  signal?: AbortSignal,
): Promise<{ readonly directory: string; readonly roots: readonly Root[] }> {
  const sources = await Promise.all(hostPaths.map((path) => readSource(path, cwd)));
  const inside = {
    directory: guestPath,
    roots: sources.map(({ path, name, contents }) => ({ path, name: contents ? bytePath("") : name })),
  };
  const meansDirectory = guestPath.endsWith("/") || sources.length > 1;
  if (meansDirectory && parents) return inside;
  const { kind, path } = await findGuestPlace(vm, guestPath, signal);
  if (kind === "directory") return inside;
  const [only] = sources;
  if (only === undefined || sources.length > 1) throw refused(`${guestPath} is not a directory of the VM`);
  if (kind === "file" && (only.isDirectory || guestPath.endsWith("/"))) {
    throw refused(`${guestPath} is a file in the VM`);
  }
  if (meansDirectory && !only.isDirectory) {
    const hint = "Create it with --parents, or leave out the slash at the end.";
    throw new HearthError("file.not_found", `There is no directory ${guestPath} in the VM.`, { hint });
  }
  const target = path.replace(/(?<=.)\/+$/, "");
  return {
    directory: posix.dirname(target),
    roots: [{ path: only.path, name: bytePath(posix.basename(target)) }],
  };
}

/** Resolves a source. A link is copied as a link; with a slash behind it, the directory that it leads to is copied. */
async function readSource(given: string, cwd: string): Promise<Source> {
  const path = resolve(cwd, given);
  const name = bytePath(basename(path));
  const contents = /(^|\/)\.\/?$/.test(given);
  const follows = contents || given.endsWith("/");
  try {
    const isDirectory = (await (follows ? stat(path) : lstat(path))).isDirectory();
    if (follows && !isDirectory) throw refused(`${given} is not a directory`);
    const real: BytePath = follows ? bytePathOf(await realpath(path, "buffer")) : bytePath(path);
    return { path: real, name, isDirectory, contents };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT" && code !== "ENOTDIR") throw error;
    const hint = "Paths of the host are relative to the current directory.";
    throw new HearthError("file.not_found", `There is no ${given} on this host.`, { hint });
  }
}

function refused(what: string): HearthError {
  return new HearthError("file.refused", `${what}.`, {
    hint: "Choose another destination, or remove it first.",
  });
}
