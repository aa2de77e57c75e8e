import type { Host } from "#daemon/host.ts";
import { snapshotPaths, snapshotsDir } from "#daemon/store/paths.ts";
import type { SnapshotId, VmId } from "#model/ids.ts";

/** Removes a snapshot; whoever maps it keeps what it maps. Its row is removed last, so that a restarted hearthd continues. Idempotent. */
export async function deleteSnapshot(host: Host, id: SnapshotId): Promise<void> {
  const { dirs, files, snapshots } = host;
  snapshots.unlist(id);
  await files.removeTree(snapshotsDir(dirs), snapshotPaths(dirs, id).dir);
  snapshots.delete(id);
}

/** The memory of a VM that slept, and does not any more. Idempotent. */
export async function deleteSuspendedMemory(host: Host, id: VmId): Promise<void> {
  for (const { id: snapshot, kind, vmId } of host.snapshots.list())
    if (kind === "suspended" && vmId === id) await deleteSnapshot(host, snapshot);
}
