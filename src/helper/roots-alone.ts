import { lstatSync, realpathSync } from "node:fs";
import { dirname } from "node:path";
import { HearthError } from "#base/error.ts";

const OTHERS_WRITE = 0o022;
const ROOT = 0;

/**
 * Checks that only root can change what is at `path`: a program that root runs, or a directory that it works in.
 * Neither it nor a directory above it may belong to another user, or be writable for others.
 * @throws HearthError `path.unmanaged` with what is to be done
 */
export function checkRootsAlone(path: string, hint: string): void {
  const why = findOthers(path);
  if (why !== undefined)
    throw new HearthError("path.unmanaged", `Cannot use ${path} as root: ${why}.`, { hint });
}

/**
 * Checks Firecracker's jailer, which runs as root, and makes devices and directories below the jails.
 * @throws HearthError as `checkRootsAlone`
 */
export function checkJailer(jailer: string, jails: string): void {
  checkRootsAlone(
    jailer,
    "Install Firecracker into a directory that only root can write, and name it in config.toml, as [firecracker] program and jailer.",
  );
  checkRootsAlone(jails, "Start the helper with a directory for jails that only root can write.");
}

/** Tells whether only root can change what is at `path`. */
export function isRootsAlone(path: string): boolean {
  return findOthers(path) === undefined;
}

function findOthers(path: string): string | undefined {
  const real = realpathSync(path);
  for (let at = real; ; at = dirname(at)) {
    const { uid, mode } = lstatSync(at);
    if (uid !== ROOT) return `${at} belongs to the uid ${uid}`;
    if ((mode & OTHERS_WRITE) !== 0) return `other users can write to ${at}`;
    if (at === dirname(at)) return undefined;
  }
}
