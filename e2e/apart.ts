/**
 * A bed's hearthd as a user without rights, beside a helper that is root. The user can enter neither the suite's cache,
 * which lies in root's home, nor the checkout where that does; so it has a cache of its own, of hard links.
 */
import { chmodSync, chownSync, copyFileSync, linkSync, lstatSync, mkdirSync, readdirSync } from "node:fs";
import { constants } from "node:fs";
import { join } from "node:path";
import { APART, closedAbove } from "#testing/apart-hearthd.ts";

/** Names the files whose hearthd has no rights: parts of their paths with commas between them, or "all". */
const VARIABLE = "HEARTH_E2E_APART";
const FOR_ALL = 0o004;

/** Whether the test file that runs here is one whose hearthd has no rights. */
export function isApart(): boolean {
  const words = (process.env[VARIABLE] ?? "").split(",").filter((word) => word !== "");
  return words.some((word) => word === "all" || process.argv[1]?.includes(word));
}

/** Says why this host cannot run a hearthd apart; undefined if it can. */
export function apartDenial(): string | undefined {
  if (process.geteuid?.() !== 0) return "it takes root to start the helper";
  const closed = closedAbove(import.meta.filename);
  return closed === undefined
    ? undefined
    : `the user ${APART.uid} cannot read the checkout: ${closed} is closed`;
}

/**
 * Gives hearthd's user a cache with all that everybody may read in the suite's. Files are linked, or copied where the
 * caches lie on two file systems; what is for root alone stays root's.
 */
export function linkCache(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  chmodSync(to, 0o755);
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isDirectory()) linkCache(source, target);
    else if (entry.isFile() && (lstatSync(source).mode & FOR_ALL) !== 0) linkOrCopy(source, target);
  }
  chownSync(to, APART.uid, APART.gid);
}

/** Makes all below `path` hearthd's, but for files that have other names. */
export function giveToApart(path: string): void {
  const stats = lstatSync(path);
  if (stats.isDirectory()) for (const name of readdirSync(path)) giveToApart(join(path, name));
  if (stats.isDirectory() || (stats.isFile() && stats.nlink === 1)) chownSync(path, APART.uid, APART.gid);
}

/** Lets every user pass through a directory and those below it: what is closed then is closed by its own mode. */
export function openDirectories(path: string): void {
  chmodSync(path, 0o755);
  for (const entry of readdirSync(path, { withFileTypes: true }))
    if (entry.isDirectory()) openDirectories(join(path, entry.name));
}

function linkOrCopy(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EXDEV") throw error;
    copyFileSync(from, to, constants.COPYFILE_FICLONE);
  }
}
