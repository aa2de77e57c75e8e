import { resumeAfterSave } from "#daemon/snapshot/quiesce-vm.ts";
import type { Flow } from "#daemon/flows/flow.ts";
import type { Host } from "#daemon/host.ts";
import type { NewSnapshot } from "#daemon/store/snapshot-rows.ts";
import { snapshotPaths, snapshotsDir } from "#daemon/store/paths.ts";
import type { SnapshotId, VmId } from "#model/ids.ts";
import type { SnapshotPart } from "#model/snapshot.ts";

/** What is journalled. */
export type SnapshotPlan = { readonly snapshotId: SnapshotId };

/** Holds what the undo of a snapshot needs: it is all that is known after a crash. */
export type SnapshotLeft = {
  readonly host: Host;
  /** Of the VM that is saved. */
  readonly id: VmId;
  readonly snapshotId: SnapshotId;
  /** Missing after a crash. */
  readonly take?: SnapshotWork | undefined;
};

export type SnapshotContext = SnapshotLeft & { readonly take: SnapshotWork };

/** What the steps do, by who knows the VMs. */
export type SnapshotWork = {
  readonly snapshot: NewSnapshot;
  /** Writes the memory and freezes the disk, with the VM halted; it goes on however this ends. */
  save(): Promise<void>;
  finishLayers(): Promise<void>;
  /** Loads what was saved into a VMM whose guest never runs. */
  settle(): Promise<void>;
  seal(): Promise<readonly SnapshotPart[]>;
  /** Restores it for a trial, if it is to be trusted blindly. */
  verify(): Promise<void>;
  parts: readonly SnapshotPart[];
};

/** Makes a snapshot of a VM, or nothing: its row counts only when all of it is there. R5. */
export const SNAPSHOT_VM: Flow<SnapshotContext, SnapshotLeft> = {
  kind: "snapshot",
  afterCrash: "unwind",
  steps: [
    {
      name: "take the name",
      run: async ({ host, take }) => {
        host.snapshots.insert(take.snapshot);
      },
      undo: async ({ host, snapshotId }) => host.snapshots.delete(snapshotId),
      undoLast: true,
    },
    {
      name: "make the folder",
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
    { name: "settle", run: async ({ take }) => take.settle() },
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
