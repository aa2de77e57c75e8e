/**
 * Recovers snapshots when hearthd starts: removes those that are incomplete, and resumes VMs whose save was
 * interrupted.
 */
import type { Host } from "#daemon/host.ts";
import { deleteSnapshot } from "#daemon/snapshot/delete-snapshot.ts";
import { resumeAfterSave } from "#daemon/snapshot/quiesce-vm.ts";
import { snapshotPaths } from "#daemon/store/paths.ts";
import type { SnapshotRecord } from "#model/snapshot.ts";
import type { VmRecord } from "#model/vm.ts";

/**
 * Deletes, after a crash of hearthd, those of these snapshots that are incomplete or temporary. An older store deletes
 * no directory: those of its deleted rows are moved to `lost+found`. Call this once their VMs are recovered, while
 * nothing else is done to these.
 */
export async function sweepSnapshots(host: Host, snapshots: readonly SnapshotRecord[]): Promise<void> {
  for (const { id } of snapshots) {
    try {
      const snapshot = host.snapshots.find(id);
      if (snapshot === undefined || !isOver(host, snapshot)) continue;
      if (host.store.isOlder) host.snapshots.delete(id);
      else await deleteSnapshot(host, id);
    } catch (error) {
      // A snapshot that cannot be removed must not keep the others from it.
      const { dir: path } = snapshotPaths(host.dirs, id);
      host.log.event("clean.left_over", { path, error });
    }
  }
}

/**
 * Resumes a VM whose suspend was interrupted: hearthd crashed after the memory was saved and before the VMM was ended.
 * Call this before VMMs are adopted; the agent channel allows one connection.
 * @returns false when it could not be resumed: then its guest memory file must be kept
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
