/** Files and folders of the host into a guest, by the rules of `docker cp`. */
import { stat } from "node:fs/promises";
import { basename, posix, resolve } from "node:path";
import { Readable } from "node:stream";
import { pack } from "tar-stream";
import { HearthError, toError } from "#base/error.ts";
import { findGuestKind } from "#sdk/guest-path.ts";
import type { HearthVm } from "#sdk/hearth-vm.ts";
import { packTree } from "#sdk/tar-pack.ts";

export type CopyInOptions = {
  /** Make the destination folder, with those above it. */
  readonly parents?: boolean | undefined;
  /** Where relative paths of the host start; the process' own folder unless told. */
  readonly cwd?: string | undefined;
};

/** A tree of the host, and the name that it gets in the folder of the guest; empty: its contents go there. */
type Root = { readonly path: string; readonly name: string };

/** Local files into a guest, by the rules of `hearth cp`. */
export async function copyIn(
  vm: HearthVm,
  hostPaths: readonly string[],
  guestPath: string,
  options: CopyInOptions = {},
  signal?: AbortSignal,
): Promise<void> {
  const { folder, roots } = await plan(vm, hostPaths, guestPath, options, signal);
  const tar = pack();
  const packed = (async () => {
    try {
      for (const { path, name } of roots) await packTree(tar, path, name, signal);
      tar.finalize();
    } catch (error) {
      tar.destroy(toError(error));
      throw error;
    }
  })();
  const sent = vm.writeTar(
    folder,
    Readable.from(tar, { objectMode: false }),
    { parents: options.parents },
    signal,
  );
  const [first, second] = await Promise.allSettled([packed, sent]);
  // A guest that refuses breaks the packing as well: what it said comes first, unless the host's files were at fault.
  if (first.status === "rejected" && first.reason instanceof HearthError) throw first.reason;
  if (second.status === "rejected") throw second.reason;
  if (first.status === "rejected") throw first.reason;
}

async function plan(
  vm: HearthVm,
  hostPaths: readonly string[],
  guestPath: string,
  { parents = false, cwd = process.cwd() }: CopyInOptions,
  signal?: AbortSignal,
): Promise<{ readonly folder: string; readonly roots: readonly Root[] }> {
  const sources = await Promise.all(hostPaths.map((path) => readSource(path, cwd)));
  const inside = {
    folder: guestPath,
    roots: sources.map(({ path, name, contents }) => ({ path, name: contents ? "" : name })),
  };
  const meansFolder = guestPath.endsWith("/") || sources.length > 1;
  if (meansFolder && parents) return inside;
  const kind = await findGuestKind(vm, guestPath, signal);
  if (kind === "folder") return inside;
  const [only] = sources;
  if (only === undefined || sources.length > 1) throw refused(`${guestPath} is not a folder of the VM`);
  if (kind === "file" && (only.isFolder || guestPath.endsWith("/"))) {
    throw refused(`${guestPath} is a file in the VM`);
  }
  if (meansFolder && !only.isFolder) {
    const hint = "Make it with --parents, or leave out the slash at the end.";
    throw new HearthError("file.not_found", `There is no folder ${guestPath} in the VM.`, { hint });
  }
  const target = posix.normalize(guestPath).replace(/(?<=.)\/$/, "");
  return { folder: posix.dirname(target), roots: [{ path: only.path, name: posix.basename(target) }] };
}

async function readSource(given: string, cwd: string) {
  const path = resolve(cwd, given);
  const contents = /(^|\/)\.\/?$/.test(given);
  try {
    const isFolder = (await stat(path)).isDirectory();
    if (!isFolder && given.endsWith("/")) throw refused(`${given} is not a folder`);
    return { path, name: basename(path), isFolder, contents: contents && isFolder };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT" && code !== "ENOTDIR") throw error;
    const hint = "Paths of the host are relative to the folder that you are in.";
    throw new HearthError("file.not_found", `There is no ${given} on this host.`, { hint });
  }
}

function refused(what: string): HearthError {
  return new HearthError("file.refused", `${what}.`, {
    hint: "Choose another destination, or remove it first.",
  });
}
