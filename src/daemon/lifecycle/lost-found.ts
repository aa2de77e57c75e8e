/**
 * `lost+found` in the state directory: what hearthd has found in its directories that no row of its store names.
 *
 *   lost+found/2026-11-27/vms/vm-…          a VM's directory, with its disk
 *   lost+found/2026-11-27/snapshots/sn-….1  the second one of that name on that day
 *
 * hearthd neither changes nor removes anything in there, except the disk of a VM that is recovered
 * (`recover-lost-vm.ts`).
 */
import { join } from "node:path";
import { HearthError } from "#base/error.ts";
import type { Dirs } from "#base/hearth-dirs.ts";
import type { Host } from "#daemon/host.ts";
import { hasDisk } from "#storage/disk-layout.ts";

/** The kinds of entries. These are also the names of the managed directories in the state directory. */
export const LOST_KINDS = ["vms", "snapshots", "volumes"] as const;
export type LostKind = (typeof LOST_KINDS)[number];

export type LostEntry = {
  readonly kind: LostKind;
  /** The name of its former directory, with a number if that name was taken. */
  readonly name: string;
  /** The day on which it was found, such as 2026-11-27. */
  readonly day: string;
  readonly path: string;
  /** True if it has a VM's disk, which can be recovered. */
  readonly hasDisk: boolean;
};

/** Returns the directory. It is on the file system of the managed directories, unless one of these is a mount point. */
export function lostFoundDir(dirs: Dirs): string {
  return join(dirs.state, "lost+found");
}

/** Moves a directory that no row names out of the way, and logs it. */
export async function moveToLostFound(
  host: Pick<Host, "dirs" | "files" | "log" | "now">,
  kind: LostKind,
  name: string,
): Promise<void> {
  const day = new Date(host.now()).toISOString().slice(0, 10);
  const from = join(host.dirs.state, kind, name);
  const to = await host.files.moveAside(from, join(lostFoundDir(host.dirs), day, kind));
  host.log.event("lost.found", { path: from, movedTo: to });
}

/** Lists the entries, the newest day first. */
export async function listLostFound({ dirs, files }: Pick<Host, "dirs" | "files">): Promise<LostEntry[]> {
  const root = lostFoundDir(dirs);
  const entries: LostEntry[] = [];
  for (const day of (await dirsIn(files, root)).toSorted().toReversed()) {
    for (const kind of LOST_KINDS) {
      for (const name of (await dirsIn(files, join(root, day, kind))).toSorted()) {
        const path = join(root, day, kind, name);
        entries.push({ kind, name, day, path, hasDisk: kind === "vms" && hasDisk(path) });
      }
    }
  }
  return entries;
}

/** A directory that does not exist has no entries. */
async function dirsIn(files: Host["files"], path: string): Promise<string[]> {
  try {
    return await files.listDirs(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

/** Returns the newest VM of this name. @throws HearthError `vm.not_found` */
export async function findLostVm(host: Pick<Host, "dirs" | "files">, name: string): Promise<LostEntry> {
  const vms = (await listLostFound(host)).filter(({ kind }) => kind === "vms");
  const found = vms.find((entry) => entry.name === name);
  if (found !== undefined) return found;
  const shown = JSON.stringify(name.slice(0, 80));
  throw new HearthError("vm.not_found", `There is no VM ${shown} in ${lostFoundDir(host.dirs)}.`, {
    hint: "`hearth system recover` lists the VMs in it.",
  });
}
