/** Taking snapshots away: asked for, or found by a hearthd that comes back. */
import { join } from "node:path";
import { toHearthError } from "#base/error.ts";
import { letGoOn } from "#daemon/hold-vm.ts";
import type { Host } from "#daemon/host.ts";
import { snapshotPaths, snapshotsDir } from "#daemon/vm-paths.ts";
import type { SnapshotId, VmId } from "#model/ids.ts";
import type { SnapshotRecord } from "#model/snapshot.ts";

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

/** After a crash of hearthd, when the VMs are put right: what is not whole goes, and what was only for a moment. */
export async function sweepSnapshots(host: Host): Promise<void> {
  for (const snapshot of host.snapshots.list()) {
    try {
      if (await isOver(host, snapshot)) await dropSnapshot(host, snapshot.id);
    } catch (error) {
      // One that cannot be removed must not hold up the others.
      const { dir: path } = snapshotPaths(host.folders, snapshot.id);
      host.log.event("clean.left_over", { path, error });
    }
  }
  const root = snapshotsDir(host.folders);
  for (const name of await host.files.listFolders(root)) {
    if (host.snapshots.find(name) !== undefined) continue;
    try {
      await host.files.removeTree(root, join(root, name));
    } catch (error) {
      host.log.event("clean.left_over", { path: join(root, name), error });
    }
  }
}

async function isOver(host: Host, { id, kind, ready, vmId }: SnapshotRecord): Promise<boolean> {
  if (!ready || kind === "fork") return true;
  if (kind !== "suspended") return false;
  const vm = host.store.findVm(vmId);
  if (vm?.state.phase === "suspended" && vm.state.snapshot === id) return false;
  // Its VMM was not ended yet, and waits.
  if (vm !== undefined) await letGoOn(host, vm).catch((error: unknown) => notReached(host, vmId, error));
  return true;
}

/** Its heartbeat, or the next command in it, will tell. */
function notReached(host: Host, vm: VmId, error: unknown): void {
  host.log.child({ vm }).event("agent.disconnected", { error: toHearthError(error) });
}
