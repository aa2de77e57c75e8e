/**
 * Creates a snapshot:
 *
 * 1. Insert its row, not ready. It cannot be restored until step 8.
 * 2. Make its directory.
 * 3. Save: freeze the guest's processes, pause the vCPUs, save the memory, keep the disk; then resume, or stay paused.
 * 4. Finish the disk layers, with the VM running.
 * 5. Load the saved state into a second VMM whose guest never runs, which proves that it can be loaded.
 * 6. Make the files read-only, and compute their digests.
 * 7. Restore it in a verification VM, where the caller wants that.
 * 8. Mark it ready.
 *
 * If a step fails, or hearthd crashes before the last, the directory and the row are removed. After a crash the VM,
 * which may still be paused and frozen, is resumed first.
 */
import { resumeAfterSave } from "#daemon/snapshot/quiesce-vm.ts";
import type { Flow } from "#daemon/flows/flow.ts";
import type { Host } from "#daemon/host.ts";
import type { NewSnapshot } from "#daemon/store/snapshot-rows.ts";
import { snapshotPaths, snapshotsDir } from "#daemon/store/paths.ts";
import type { SnapshotId, VmId } from "#model/ids.ts";
import type { SnapshotPart } from "#model/snapshot.ts";

/** The part of the flow that is journaled. */
export type SnapshotPlan = { readonly snapshotId: SnapshotId };

/** The input of the undo: all that is known after a crash. */
export type SnapshotLeft = {
  readonly host: Host;
  /** The source VM. */
  readonly id: VmId;
  readonly snapshotId: SnapshotId;
  /** Missing after a crash. */
  readonly take?: SnapshotWork | undefined;
};

export type SnapshotContext = SnapshotLeft & { readonly take: SnapshotWork };

/** The work of the steps, done by callers that know the VMs. */
export type SnapshotWork = {
  readonly snapshot: NewSnapshot;
  /**
   * Saves the guest memory and the disk while the vCPUs are paused. A VM that is to be resumed is, even if that fails.
   */
  save(): Promise<void>;
  finishLayers(): Promise<void>;
  /** Loads the saved state into a VMM whose guest never runs. */
  finalize(): Promise<void>;
  seal(): Promise<readonly SnapshotPart[]>;
  /** Restores the snapshot in a verification VM, if it is one that VMs will be started from without asking. */
  verify(): Promise<void>;
  parts: readonly SnapshotPart[];
};

/** Creates a snapshot of a VM, or nothing: readers see its row only when it is complete. */
export const SNAPSHOT_VM: Flow<SnapshotContext, SnapshotLeft> = {
  kind: "snapshot",
  afterCrash: "unwind",
  steps: [
    {
      name: "reserve the name",
      run: async ({ host, take }) => {
        host.snapshots.insert(take.snapshot);
      },
      undo: async ({ host, snapshotId }) => host.snapshots.delete(snapshotId),
      undoLast: true,
    },
    {
      name: "make the directory",
      run: ({ host, snapshotId }) => host.files.makeDir(snapshotPaths(host.dirs, snapshotId).dir),
      undo: ({ host, snapshotId }) =>
        host.files.removeTree(snapshotsDir(host.dirs), snapshotPaths(host.dirs, snapshotId).dir),
    },
    {
      name: "save",
      run: async ({ take }) => take.save(),
      undo: async ({ host, id, take }) => {
        const vm = host.store.findVm(id);
        if (take === undefined && vm !== undefined) await resumeAfterSave(host, vm);
      },
    },
    { name: "finish the layers", run: async ({ take }) => take.finishLayers() },
    { name: "finalize", run: async ({ take }) => take.finalize() },
    {
      name: "seal",
      run: async ({ take }) => {
        take.parts = await take.seal();
      },
    },
    { name: "verify", run: async ({ take }) => take.verify() },
    {
      name: "commit",
      run: async ({ host, snapshotId, take }) => {
        host.snapshots.setReady(snapshotId, take.parts);
      },
    },
  ],
};
