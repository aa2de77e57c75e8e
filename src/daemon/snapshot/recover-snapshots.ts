/** Snapshots that a hearthd finds when it comes back: which are whole, and which VMs stand still for one. */
import type { Host } from "#daemon/host.ts";
import { deleteSnapshot } from "#daemon/snapshot/delete-snapshot.ts";
import { resumeAfterSave } from "#daemon/snapshot/quiesce-vm.ts";
import { snapshotPaths } from "#daemon/store/paths.ts";
import type { SnapshotRecord } from "#model/snapshot.ts";
import type { VmRecord } from "#model/vm.ts";

/**
 * After a crash of hearthd: drops those of these snapshots that are not whole, or were only for a moment. An older store
 * removes no directory: what its row was of is moved to `lost+found`. To be called when their VMs are recovered, and
 * while nothing else is done to these.
 */
export async function sweepSnapshots(host: Host, snapshots: readonly SnapshotRecord[]): Promise<void> {
  for (const { id } of snapshots) {
    try {
      const snapshot = host.snapshots.find(id);
      if (snapshot === undefined || !isOver(host, snapshot)) continue;
      if (host.store.isOlder) host.snapshots.delete(id);
      else await deleteSnapshot(host, id);
    } catch (error) {
      // One that cannot be removed must not hold up the others.
      const { dir: path } = snapshotPaths(host.dirs, id);
      host.log.event("clean.left_over", { path, error });
    }
  }
}

/**
 * After a crash of hearthd: resumes a VM whose memory was saved so that it can be suspended, and whose VMM was not ended
 * yet. To be called before anybody else holds the connection to its agent, of which there is one.
 * @returns false when it could not be resumed: then nothing of its memory may be dropped
 */
export async function resumeSuspending(
  host: Host,
  vm: VmRecord,
  snapshots: readonly SnapshotRecord[],
): Promise<boolean> {
  if (!snapshots.some((snapshot) => snapshot.kind === "suspended" && isOver(host, snapshot))) return true;
  try {
    await resumeAfterSave(host, vm);
    return true;
  } catch (error) {
    host.log.child({ vm: vm.id }).event("vm.not_recovered", { error });
    return false;
  }
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
