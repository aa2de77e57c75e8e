/** A file or folder of a guest to the host, by the rules of `docker cp`. */
import { stat } from "node:fs/promises";
import { basename, dirname, join, posix, resolve } from "node:path";
import { HearthError } from "#base/error.ts";
import type { HearthVm } from "#sdk/hearth-vm.ts";
import { lstatIfThere } from "#sdk/lstat-if-there.ts";
import { unpackTree } from "#sdk/tar-unpack.ts";
import type { TreeKind } from "#sdk/tar-unpack.ts";

export type CopyOutOptions = {
  /** Where a relative path of the host starts; the process' own folder unless told. */
  readonly cwd?: string | undefined;
};

/** A guest's files onto this machine, by the rules of `hearth cp`. The guest is not trusted. */
export async function copyOut(
  vm: HearthVm,
  guestPath: string,
  hostPath: string,
  { cwd = process.cwd() }: CopyOutOptions = {},
  signal?: AbortSignal,
): Promise<void> {
  const destination = resolve(cwd, hostPath);
  const meansFolder = hostPath.endsWith("/") || /(^|\/)\.\.?$/.test(hostPath);
  const tar = await vm.readTar(guestPath, signal);
  try {
    await unpackTree(
      tar,
      (kind, sentName) => place(kind, sentName, guestPath, destination, meansFolder),
      signal,
    );
  } finally {
    tar.on("error", () => undefined); // What is left of it is cut off.
    tar.destroy();
  }
}

/** Where the tree's root goes. Its name is the one that was asked for; the guest has no say in it if we know it. */
async function place(
  kind: TreeKind,
  sentName: string,
  guestPath: string,
  destination: string,
  meansFolder: boolean,
): Promise<string> {
  const asked = posix.basename(posix.normalize(guestPath));
  const name = asked === "." || asked === ".." || asked === "" ? sentName : asked;
  const there = await findKind(destination);
  if (there === "folder") {
    const contents = kind === "folder" && /(^|\/)\.\/?$/.test(guestPath) && guestPath !== ".";
    if (contents || name === "") return destination;
    return join(destination, name);
  }
  if (there === "missing") {
    if (kind !== "folder" && meansFolder) throw missing(destination);
    if ((await findKind(dirname(destination))) !== "folder") throw missing(dirname(destination));
    return destination;
  }
  if (kind === "folder" || meansFolder) {
    const hint = "Choose another destination, or remove it first.";
    throw new HearthError("file.refused", `${basename(destination)} is a file, and cannot hold a folder.`, {
      hint,
    });
  }
  return destination;
}

async function findKind(path: string): Promise<"folder" | "file" | "missing"> {
  try {
    return (await stat(path)).isDirectory() ? "folder" : "file";
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT" && code !== "ENOTDIR") throw error;
    // A link that leads nowhere is something all the same.
    return (await lstatIfThere(path)) === undefined ? "missing" : "file";
  }
}

function missing(path: string): HearthError {
  return new HearthError("file.not_found", `There is no folder ${path} on this host.`, {
    hint: "Make it first.",
  });
}
