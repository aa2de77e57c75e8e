import { posix } from "node:path";
import { HearthError } from "#base/error.ts";
import { rawPath } from "#sdk/byte-path.ts";
import type { HearthVm } from "#sdk/hearth-vm.ts";
import type { TarHeader } from "#sdk/tar-format.ts";
import { readTarMembers } from "#sdk/tar-read.ts";

/** A path of the guest with its links resolved. */
export type GuestPlace = { readonly kind: "directory" | "file" | "missing"; readonly path: string };

const LINKS_MAX = 8;

/**
 * Finds what kind of file a path of the guest leads to. The API has no call for it, so the first header of the path's
 * tar stream is read, and the rest is cut off.
 * @throws HearthError `file.refused` for what a copy must not replace: a device, a FIFO, a link that leads nowhere.
 */
export async function findGuestPlace(vm: HearthVm, given: string, signal?: AbortSignal): Promise<GuestPlace> {
  let path = given;
  for (let links = 0; links <= LINKS_MAX; links++) {
    const entry = await firstEntry(vm, path, signal);
    if (entry === undefined) {
      if (links > 0) throw refused(`${given} is a symbolic link to a path that does not exist in the VM`);
      return { kind: "missing", path };
    }
    const { type } = entry;
    if (type === "directory" || type === "file") return { kind: type, path };
    if (type !== "symlink") throw refused(`${given} is a ${type} in the VM, which is never replaced`);
    const behind = await firstEntry(vm, `${path}/.`, signal);
    if (behind?.type === "directory") return { kind: "directory", path: given };
    if (behind !== undefined) {
      const hint = `Restart the VM, because its agent is from an older Hearth. Or write \`${given}/NAME\`.`;
      throw refused(`${given} is a symbolic link in the VM, which may point to a directory`, hint);
    }
    path = posix.isAbsolute(entry.linkname) ? textOf(entry, given) : besides(path, textOf(entry, given));
  }
  throw refused(`${given} has too many symbolic links in the VM`);
}

async function firstEntry(vm: HearthVm, path: string, signal?: AbortSignal): Promise<TarHeader | undefined> {
  let tar;
  try {
    tar = await vm.readTar(path, signal);
  } catch (error) {
    if (error instanceof HearthError && error.code === "file.not_found") return undefined;
    throw error;
  }
  try {
    for await (const { header } of readTarMembers(tar, {}, signal)) return header;
    return undefined;
  } finally {
    tar.on("error", () => undefined); // The rest is cut off.
    tar.destroy();
  }
}

/** Leaves `..` for the guest to resolve: behind a link it leads elsewhere than the text says. */
function besides(path: string, linkname: string): string {
  return path.slice(0, path.lastIndexOf("/") + 1) + linkname;
}

function textOf({ linkname }: TarHeader, given: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(rawPath(linkname));
  } catch (cause) {
    throw Object.assign(refused(`${given} is a symbolic link in the VM to a name that is not UTF-8`), {
      cause,
    });
  }
}

function refused(what: string, hint = "Name another destination, or the target of the link."): HearthError {
  return new HearthError("file.refused", `${what}.`, { hint });
}
