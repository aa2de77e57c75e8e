/** Giving a VM's own files to its uid, and taking them back. Never a link, never a file with a second name. */
import { closeSync, constants, fchmodSync, fchownSync, fstatSync, openSync, realpathSync } from "node:fs";
import type { Stats } from "node:fs";
import { dirname, join } from "node:path";
import { HearthError } from "#base/error.ts";

/** A managed root, and the path below it that is to be what it says. */
export type OwnFile = { readonly root: string; readonly path: string; readonly kind: "file" | "folder" };

/** A user whose files they become. */
export type Ids = { readonly uid: number; readonly gid: number };

export type Owner = Ids & {
  /** Left as it is when undefined. */
  readonly mode?: number | undefined;
  /** Who may have it now; anybody when undefined. */
  readonly from?: ((uid: number) => boolean) | undefined;
};

/**
 * Checks that `own` is what it should be, and sets its owner if one is given. Idempotent.
 * @throws HearthError `path.unmanaged` for a link, another kind of file, one with other names, or one outside of
 * its root; nothing is changed then.
 */
export function claimFile(own: OwnFile, owner: Owner | undefined): void {
  checkParent(own);
  const fd = openNoLink(own);
  try {
    const stats = fstatSync(fd);
    checkKind(own, stats);
    if (owner === undefined) return;
    if (owner.from?.(stats.uid) === false) throw refusal(own, `it belongs to the uid ${stats.uid}`);
    fchownSync(fd, owner.uid, owner.gid);
    if (owner.mode !== undefined) fchmodSync(fd, owner.mode);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EINVAL") throw error;
    throw new HearthError("host.uid_unmapped", `This host knows no uid ${owner?.uid}.`, {
      hint: "Set [isolation] uid_first in config.toml to a range that /proc/self/uid_map has, or use --no-jail.",
      cause: error,
    });
  } finally {
    closeSync(fd);
  }
}

/** No link anywhere between the root and the file. */
function checkParent(own: OwnFile): void {
  const root = realpathSync(own.root);
  const expected = join(root, dirname(own.path).slice(own.root.length));
  const real = realpathSync(dirname(own.path));
  if (real !== expected || !(real === root || real.startsWith(`${root}/`)))
    throw refusal(own, `it really lies in ${real}`);
}

function openNoLink(own: OwnFile): number {
  const folder = own.kind === "folder" ? constants.O_DIRECTORY : 0;
  try {
    return openSync(own.path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | folder);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ELOOP" || code === "ENOTDIR") throw refusal(own, "it is a link");
    if (code === "ENXIO") throw refusal(own, `it is no ${own.kind}`);
    throw error;
  }
}

function checkKind(own: OwnFile, stats: Stats): void {
  if (own.kind === "folder" ? !stats.isDirectory() : !stats.isFile())
    throw refusal(own, `it is no ${own.kind}`);
  if (own.kind === "file" && stats.nlink !== 1) throw refusal(own, "it has a second name");
}

function refusal(own: OwnFile, reason: string): HearthError {
  return new HearthError("path.unmanaged", `${JSON.stringify(own.path)} is not given to a VM: ${reason}.`, {
    hint: "Nothing was changed. Who put it there? A VM's files are made by hearthd alone.",
  });
}
