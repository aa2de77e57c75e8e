import { join } from "node:path";
import { RUN_NAMES, SNAPSHOT_NAMES, STATE_NAMES, VM_NAMES } from "#base/file-names.ts";
import type { Folders } from "#base/folders.ts";
import type { SavedState } from "#drivers/vm-driver.ts";
import type { SnapshotId, VmId } from "#model/ids.ts";
import { findDisk } from "#storage/disk-layout.ts";

/** Where a VM's files are. They follow from its id alone, so a crash cannot lose them. */
export type VmPaths = {
  readonly stateDir: string;
  readonly runDir: string;
  readonly jailDir: string;
  /** Of whichever format it is. */
  readonly disk: string;
  readonly saveDir: string;
  /** Left by a hearthd that was killed while it restored this VM. */
  readonly memoryCopy: string;
  readonly console: string;
  readonly vmmLog: string;
};

export type SnapshotPaths = SavedState & { readonly dir: string };

/** Nothing is made; which disk it has is looked up. */
export function vmPaths(folders: Folders, id: VmId): VmPaths {
  const stateDir = join(vmsDir(folders), id);
  return {
    stateDir,
    runDir: join(vmRunsDir(folders), id),
    jailDir: join(jailsDir(folders), id),
    disk: findDisk(stateDir).path,
    saveDir: join(stateDir, VM_NAMES.save),
    memoryCopy: join(stateDir, VM_NAMES.memoryCopy),
    console: join(stateDir, VM_NAMES.console),
    vmmLog: join(stateDir, VM_NAMES.vmmLog),
  };
}

/** The managed root of what VMs keep. */
export function vmsDir(folders: Folders): string {
  return join(folders.state, STATE_NAMES.vms);
}

/** The managed root of volumes. */
export function volumesDir(folders: Folders): string {
  return join(folders.state, STATE_NAMES.volumes);
}

/** The managed root of snapshots. */
export function snapshotsDir(folders: Folders): string {
  return join(folders.state, STATE_NAMES.snapshots);
}

/** Where a snapshot's files are; they follow from its id alone. */
export function snapshotPaths(folders: Folders, id: SnapshotId): SnapshotPaths {
  const dir = join(snapshotsDir(folders), id);
  return { dir, memory: join(dir, SNAPSHOT_NAMES.memory), state: join(dir, SNAPSHOT_NAMES.state) };
}

/** The managed root of VMs' sockets. */
export function vmRunsDir(folders: Folders): string {
  return join(folders.run, RUN_NAMES.vms);
}

/** The managed root of VMMs' own root folders, for those that have one. */
export function jailsDir(folders: Folders): string {
  return join(folders.state, STATE_NAMES.jails);
}
