/** Seals and hashes the memory files of a snapshot when they are written, and checks them before each use. */
import { chmod } from "node:fs/promises";
import { HearthError, invariant } from "#base/error.ts";
import type { Host } from "#daemon/host.ts";
import { snapshotPaths } from "#daemon/store/paths.ts";
import { syncPath } from "#host/atomic-file.ts";
import { hashFile } from "#host/hash-file.ts";
import { statFingerprint } from "#host/verified-files.ts";
import type { SnapshotId } from "#model/ids.ts";
import type { SnapshotPart, SnapshotRecord } from "#model/snapshot.ts";

/** No name of a snapshot begins so. */
const SUSPENDED_PREFIX = "of the suspended VM ";
const PARTS = ["memory", "state"] as const;

/**
 * Seals the files: they are read-only from now on, and VMMs may read them.
 * @param durable true to wait until the files, their names and modes survive a power cut
 */
export async function sealParts(host: Host, id: SnapshotId, durable: boolean): Promise<void> {
  const paths = snapshotPaths(host.dirs, id);
  await host.helper.sealMemory(id);
  await chmod(paths.state, 0o444);
  if (durable) for (const path of [paths.memory, paths.state, paths.dir]) await syncPath(path);
}

/** Returns the digests of sealed files, to be checked at each use. */
export async function hashParts(host: Host, id: SnapshotId, signal: AbortSignal): Promise<SnapshotPart[]> {
  const paths = snapshotPaths(host.dirs, id);
  const parts: SnapshotPart[] = [];
  for (const name of PARTS) {
    // Read first: a change during the hashing is then found at the next use.
    const fingerprint = await statFingerprint(paths[name]);
    invariant(fingerprint !== undefined, `a snapshot has its ${name}`);
    parts.push({ name, fingerprint, ...(await hashFile(paths[name], signal)) });
  }
  return parts;
}

/** Checks the memory files against their digests. @throws HearthError `snapshot.corrupt` */
export async function checkParts(host: Host, snapshot: SnapshotRecord, signal: AbortSignal): Promise<void> {
  const paths = snapshotPaths(host.dirs, snapshot.id);
  for (const part of snapshot.parts)
    await host.snapshotFiles.check(paths[part.name], part, shownAs(snapshot), signal);
}

function shownAs({ id, kind, name, vmName }: SnapshotRecord): string {
  return name ?? (kind === "suspended" ? `${SUSPENDED_PREFIX}${vmName}` : id);
}

/** Returns the error of `VerifiedFiles` for a damaged file. */
export function corruptSnapshot(path: string, name: string, reason: string): HearthError {
  const fix = name.startsWith(SUSPENDED_PREFIX)
    ? "Delete its memory with `hearth kill`, and start the VM with its current disk."
    : `Restore its files from a backup, or create another snapshot. With --cold, a VM is created from its disk alone.`;
  return new HearthError("snapshot.corrupt", `The snapshot ${name} is damaged: ${path}: ${reason}.`, {
    hint: `Nothing was started. ${fix}`,
  });
}
