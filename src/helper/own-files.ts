/**
 * Opening files in the directories of VMs, volumes and snapshots, giving them to a VM's uid, and taking them back. Whoever
 * owns these directories may change them meanwhile, so what is checked is what is open: never a link, nothing outside of
 * its root, never a file with a second name.
 */
import { closeSync, constants, fchmodSync, fchownSync, fstatSync, openSync } from "node:fs";
import { readlinkSync, realpathSync } from "node:fs";
import type { Stats } from "node:fs";
import { basename, dirname, join } from "node:path";
import { HearthError } from "#base/error.ts";
import { O_PATH } from "#host/open-flags.ts";

/** A managed root, and the path below it that is to be what it says. */
export type OwnFile = {
  readonly root: string;
  readonly path: string;
  readonly kind: "file" | "dir" | "fifo";
  /** The directory below the root that it has to lie in; anywhere below the root when left out. */
  readonly below?: string | undefined;
  /** Tells whether the file may belong to this uid now; any uid is accepted when undefined. */
  readonly from?: ((uid: number) => boolean) | undefined;
};

/** A user whose files they become. */
export type Ids = { readonly uid: number; readonly gid: number };

export type Owner = Ids & {
  /** Left as it is when undefined. */
  readonly mode?: number | undefined;
};

const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK, O_DIRECTORY } = constants;

/**
 * Checks that `own` is what it should be, and sets its owner if one is given. Idempotent.
 * @throws HearthError `path.unmanaged` for a link, another kind of file, one with other names, one of somebody else, or
 * one outside of its root; nothing is changed then.
 */
export function claimFile(own: OwnFile, owner: Owner | undefined): void {
  const fd = openOwn(own, O_RDONLY);
  try {
    if (owner !== undefined) chownOpen(fd, owner);
  } finally {
    closeSync(fd);
  }
}

/**
 * Opens `own`, or makes it where `flags` say so, and checks that it is what it should be. The caller closes it.
 * @throws HearthError `path.unmanaged` as `claimFile`, and the system's error where nothing is there
 */
export function openOwn(own: OwnFile, flags: number, mode?: number): number {
  const dir = openParent(own);
  try {
    const fd = openNoLink(own, join(shownAs(dir), basename(own.path)), flags, mode);
    try {
      checkKind(own, fstatSync(fd));
      return fd;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  } finally {
    closeSync(dir);
  }
}

/** Sets the owner of what `openOwn` has opened. @throws HearthError `host.uid_unmapped` */
export function chownOpen(fd: number, owner: Owner): void {
  try {
    fchownSync(fd, owner.uid, owner.gid);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EINVAL") throw error;
    throw new HearthError("host.uid_unmapped", `This host knows no uid ${owner.uid}.`, {
      hint: "Set [isolation] uid_first in config.toml to a range that /proc/self/uid_map has, or use --no-jail.",
      cause: error,
    });
  }
  if (owner.mode !== undefined) fchmodSync(fd, owner.mode);
}

/** Opens the directory that the file lies in: it stays the same one, whatever its name leads to later. */
function openParent(own: OwnFile): number {
  if (typeof own.path !== "string")
    throw new HearthError("input.invalid", "A file of a VM must be named by its path.");
  const root = realpathSync(own.root);
  const expected = join(root, dirname(own.path).slice(own.root.length));
  const plain = join(own.path) === own.path && own.path.startsWith(`${own.below ?? own.root}/`);
  if (!plain || !(expected === root || expected.startsWith(`${root}/`)))
    throw refusal(own, `it does not lie in ${own.below ?? own.root}`);
  const fd = openNoLink(own, expected, O_PATH | O_DIRECTORY);
  const real = readlinkSync(shownAs(fd));
  if (real === expected) return fd;
  closeSync(fd);
  throw refusal(own, `it really lies in ${real}`);
}

function openNoLink(own: OwnFile, path: string, flags: number, mode?: number): number {
  const dir = own.kind === "dir" ? O_DIRECTORY : 0;
  try {
    return openSync(path, flags | O_NOFOLLOW | O_NONBLOCK | dir, mode);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ELOOP" || code === "ENOTDIR") throw refusal(own, "it is a link");
    if (code === "ENXIO") throw refusal(own, `it is no ${own.kind}`);
    throw error;
  }
}

function checkKind(own: OwnFile, stats: Stats): void {
  const is = { dir: stats.isDirectory(), file: stats.isFile(), fifo: stats.isFIFO() }[own.kind];
  if (!is) throw refusal(own, `it is no ${own.kind}`);
  if (own.kind === "file" && stats.nlink !== 1) throw refusal(own, "it has a second name");
  if (own.from?.(stats.uid) === false) throw refusal(own, `it belongs to the uid ${stats.uid}`);
}

function shownAs(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

function refusal(own: OwnFile, reason: string): HearthError {
  return new HearthError("path.unmanaged", `${JSON.stringify(own.path)} is not given to a VM: ${reason}.`, {
    hint: "Nothing was changed. Who put it there? A VM's files are made by hearthd alone.",
  });
}
