import type { Host } from "#daemon/host.ts";
import { snapshotPaths, snapshotsDir } from "#daemon/store/paths.ts";
import type { SnapshotId, VmId } from "#model/ids.ts";

/** Whoever maps it keeps what it maps. Its row goes last: until then a hearthd that comes back can go on. Idempotent. */
export async function dropSnapshot(host: Host, id: SnapshotId): Promise<void> {
  const { folders, files, snapshots } = host;
  snapshots.retire(id);
  await files.removeTree(snapshotsDir(folders), snapshotPaths(folders, id).dir);
  snapshots.delete(id);
}

/** The memory of a VM that slept, and does not any more. Idempotent. */
export async function forgetMemory(host: Host, id: VmId): Promise<void> {
  for (const { id: snapshot, kind, vmId } of host.snapshots.list())
    if (kind === "suspended" && vmId === id) await dropSnapshot(host, snapshot);
}
