/** Taking snapshots away: asked for, or found by a hearthd that comes back. */
import { join } from "node:path";
import { letGoOn } from "#daemon/hold-vm.ts";
import type { Host } from "#daemon/host.ts";
import { moveToLostFound } from "#daemon/lost-found.ts";
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

/**
 * After a crash of hearthd, when the VMs are recovered: what is not whole goes, and what was only for a moment.
 * A directory that no row knows of is moved to `lost+found`, and so is all that an older store would remove.
 * Nothing of the VMs in `halted` goes: it says that they are yet to be resumed.
 */
export async function sweepSnapshots(host: Host, halted: ReadonlySet<VmId>): Promise<void> {
  for (const snapshot of host.snapshots.list()) {
    try {
      if (!isOver(host, snapshot) || halted.has(snapshot.vmId)) continue;
      if (host.store.isOlder) host.snapshots.delete(snapshot.id);
      else await dropSnapshot(host, snapshot.id);
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
      await moveToLostFound(host, "snapshots", name);
    } catch (error) {
      host.log.event("clean.left_over", { path: join(root, name), error });
    }
  }
}

/**
 * After a crash of hearthd: a VM whose memory was saved so that it can sleep, and whose VMM was not ended yet, waits.
 * To be called before anybody else holds the connection to its agent, of which there is one.
 * @returns the VMs that could not be resumed, and still wait
 */
export async function letSleeplessGoOn(host: Host): Promise<ReadonlySet<VmId>> {
  const halted = new Set<VmId>();
  for (const snapshot of host.snapshots.list()) {
    const vm = host.store.findVm(snapshot.vmId);
    if (snapshot.kind !== "suspended" || vm === undefined || !isOver(host, snapshot)) continue;
    await letGoOn(host, vm).catch((error: unknown) => {
      halted.add(vm.id);
      host.log.child({ vm: vm.id }).event("vm.not_recovered", { error });
    });
  }
  return halted;
}

function isOver(host: Host, { id, kind, ready, vmId }: SnapshotRecord): boolean {
  if (!ready || kind === "fork") return true;
  if (kind !== "suspended") return false;
  // A flow that could not be undone or finished may make the VM suspended again.
  const unfinished = host.journals.listOpen().filter((flow) => flow.vmId === vmId);
  if (unfinished.some(({ kind: flow }) => flow === "start" || flow === "stop")) return false;
  const state = host.store.findVm(vmId)?.state;
  return state?.phase !== "suspended" || state.snapshot !== id;
}
