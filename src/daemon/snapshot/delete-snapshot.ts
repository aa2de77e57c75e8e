import type { Host } from "#daemon/host.ts";
import { snapshotPaths, snapshotsDir } from "#daemon/store/paths.ts";
import type { SnapshotId, VmId } from "#model/ids.ts";

/**
 * Deletes a snapshot; VMMs that have mapped it keep their mapping. Its row is removed last, so that a restarted hearthd
 * continues. Idempotent.
 */
export async function deleteSnapshot(host: Host, id: SnapshotId): Promise<void> {
  const { dirs, files, snapshots } = host;
  snapshots.unlist(id);
  await files.removeTree(snapshotsDir(dirs), snapshotPaths(dirs, id).dir);
  snapshots.delete(id);
}

/** Deletes the memory of a VM that is no longer suspended. Idempotent. */
export async function deleteSuspendedMemory(host: Host, id: VmId): Promise<void> {
  for (const { id: snapshot, kind, vmId } of host.snapshots.list())
    if (kind === "suspended" && vmId === id) await deleteSnapshot(host, snapshot);
}
