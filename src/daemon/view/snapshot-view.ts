import type { Snapshot } from "#api/wire.ts";
import type { Host } from "#daemon/host.ts";
import type { Snapshots } from "#daemon/snapshot/snapshots.ts";
import { snapshotPaths } from "#daemon/store/paths.ts";
import type { SnapshotRecord } from "#model/snapshot.ts";

/** Describes a snapshot as the API shows it. */
export async function snapshotView(
  host: Host,
  snapshots: Snapshots,
  snapshot: SnapshotRecord,
): Promise<Snapshot> {
  const { id, owner, name, labels, vmName, spec, imageDigest, shape } = snapshot;
  const { parts, createdAtMs, lastUsedAtMs } = snapshot;
  const { image, cpus, memoryBytes, diskBytes, network, init } = spec;
  return {
    id,
    owner,
    name,
    labels,
    vm: vmName,
    image,
    imageDigest,
    hasMemory: shape !== undefined,
    driver: shape?.driver,
    vmm: shape?.vmm,
    cpus,
    memoryBytes,
    diskBytes,
    network,
    init,
    allocatedBytes: await host.disks.dirBytes(snapshotPaths(host.dirs, id).dir),
    parts: parts.map((part) => ({ name: part.name, sizeBytes: part.sizeBytes, sha256: part.sha256 })),
    usedBy: snapshots.usersOf(snapshot).map((vm) => vm.name),
    createdAtMs,
    lastUsedAtMs,
  };
}
