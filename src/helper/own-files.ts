/**
 * Opens files in the directories of VMs, volumes and snapshots, and changes their owners. The owner of these
 * directories may change them meanwhile, so the checks are made on the open file: it is never a link, never outside of
 * its root, and never has a second name.
 */
import { closeSync, constants, fchmodSync, fchownSync, fstatSync, openSync } from "node:fs";
import { readlinkSync, realpathSync } from "node:fs";
import type { Stats } from "node:fs";
import { basename, dirname, join } from "node:path";
import { HearthError } from "#base/error.ts";
import { O_PATH } from "#host/open-flags.ts";

/** A managed root, and a path below it with its expected properties. */
export type OwnFile = {
  readonly root: string;
  readonly path: string;
  readonly kind: "file" | "dir" | "fifo";
  /** The directory below the root that must contain the file; anywhere below the root if undefined. */
  readonly below?: string | undefined;
  /** Tells whether the file may belong to this uid now; any uid is accepted if undefined. */
  readonly from?: ((uid: number) => boolean) | undefined;
};

/** The user who becomes the owner. */
export type Ids = { readonly uid: number; readonly gid: number };

export type Owner = Ids & {
  /** Unchanged if undefined. */
  readonly mode?: number | undefined;
};

const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK, O_DIRECTORY } = constants;

/**
 * Checks that `own` is as expected, and sets its owner if one is given. Idempotent.
 * @throws HearthError `path.unmanaged`, and changes nothing, for a link, another kind of file, a file with a second
 * name, of another owner, or outside of its root
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
 * Opens `own`, or makes it if `flags` say so, and checks that it is as expected. The caller closes it.
 * @throws HearthError `path.unmanaged` as `claimFile`, and the system's error if it does not exist
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

/**
 * Sets the owner of a file from `openOwn`.
 * @throws HearthError `host.uid_unmapped`
 */
export function chownOpen(fd: number, owner: Owner): void {
  try {
    fchownSync(fd, owner.uid, owner.gid);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EINVAL") throw error;
    throw new HearthError(
      "host.uid_unmapped",
      `The uid ${owner.uid} does not exist in this user namespace.`,
      {
        hint: "Set [isolation] uid_first in config.toml to a range that /proc/self/uid_map has, or use --no-jail.",
        cause: error,
      },
    );
  }
  if (owner.mode !== undefined) fchmodSync(fd, owner.mode);
}

/** Opens the directory that contains the file. It stays the same one, even if its path is changed later. */
function openParent(own: OwnFile): number {
  if (typeof own.path !== "string")
    throw new HearthError("input.invalid", "A file of a VM must be named by its path.");
  const root = realpathSync(own.root);
  const expected = join(root, dirname(own.path).slice(own.root.length));
  const plain = join(own.path) === own.path && own.path.startsWith(`${own.below ?? own.root}/`);
  if (!plain || !(expected === root || expected.startsWith(`${root}/`)))
    throw refusal(own, `it is not in ${own.below ?? own.root}`);
  const fd = openNoLink(own, expected, O_PATH | O_DIRECTORY);
  const real = readlinkSync(shownAs(fd));
  if (real === expected) return fd;
  closeSync(fd);
  throw refusal(own, `its real path is in ${real}`);
}

function openNoLink(own: OwnFile, path: string, flags: number, mode?: number): number {
  const dir = own.kind === "dir" ? O_DIRECTORY : 0;
  try {
    return openSync(path, flags | O_NOFOLLOW | O_NONBLOCK | dir, mode);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ELOOP" || code === "ENOTDIR") throw refusal(own, "it is a symbolic link");
    if (code === "ENXIO") throw refusal(own, `it is not a ${own.kind}`);
    throw error;
  }
}

function checkKind(own: OwnFile, stats: Stats): void {
  const is = { dir: stats.isDirectory(), file: stats.isFile(), fifo: stats.isFIFO() }[own.kind];
  if (!is) throw refusal(own, `it is not a ${own.kind}`);
  if (own.kind === "file" && stats.nlink !== 1) throw refusal(own, "it has a second hard link");
  if (own.from?.(stats.uid) === false) throw refusal(own, `it belongs to the uid ${stats.uid}`);
}

function shownAs(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

function refusal(own: OwnFile, reason: string): HearthError {
  return new HearthError(
    "path.unmanaged",
    `${JSON.stringify(own.path)} cannot be given to a VM: ${reason}.`,
    {
      hint: "Nothing was changed. Only hearthd creates the files of a VM: find out which program has created this one.",
    },
  );
}
