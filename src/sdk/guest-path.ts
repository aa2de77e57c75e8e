import { posix } from "node:path";
import { extract } from "tar-stream";
import { HearthError } from "#base/error.ts";
import type { HearthVm } from "#sdk/hearth-vm.ts";

export type GuestKind = "folder" | "file" | "missing";

/**
 * What lies at a path of the guest, through links. The API has no call of its own for that; the first header of a
 * path's tar stream says it, and the rest is not read.
 */
export async function findGuestKind(vm: HearthVm, path: string, signal?: AbortSignal): Promise<GuestKind> {
  const kind = await firstEntry(vm, path, signal);
  if (kind !== "symlink") return kind;
  // A link is a folder when what it leads to has something inside, even if that is only itself.
  return (await firstEntry(vm, posix.join(path, "."), signal)) === "folder" ? "folder" : "file";
}

async function firstEntry(vm: HearthVm, path: string, signal?: AbortSignal): Promise<GuestKind | "symlink"> {
  let tar;
  try {
    tar = await vm.readTar(path, signal);
  } catch (error) {
    if (error instanceof HearthError && error.code === "file.not_found") return "missing";
    throw error;
  }
  const entries = extract();
  try {
    return await new Promise((resolve, reject) => {
      entries.on("entry", ({ type }) =>
        resolve(type === "directory" ? "folder" : type === "symlink" ? "symlink" : "file"),
      );
      entries.on("error", reject);
      entries.on("finish", () => resolve("missing"));
      tar.on("error", reject);
      tar.on("data", (chunk: Buffer) => entries.write(chunk));
      tar.on("end", () => entries.end(null));
    });
  } finally {
    tar.on("error", () => undefined); // The rest is cut off.
    tar.destroy();
    entries.destroy();
  }
}
