import { join } from "node:path";
import { RUN_NAMES, SNAPSHOT_NAMES, STATE_NAMES, VM_NAMES } from "#base/file-names.ts";
import type { Dirs } from "#base/hearth-dirs.ts";
import type { SnapshotFiles } from "#drivers/vm-driver.ts";
import type { SnapshotId, VmId } from "#model/ids.ts";
import { findDisk } from "#storage/disk-layout.ts";

/** The paths of a VM's files. They follow from its id alone, so a crash cannot lose them. */
export type VmPaths = {
  readonly stateDir: string;
  readonly runDir: string;
  readonly jailDir: string;
  /** The disk, in whichever format it is. */
  readonly disk: string;
  readonly saveDir: string;
  /** Left by a hearthd that was killed while it restored this VM. */
  readonly memoryCopy: string;
  readonly console: string;
  readonly vmmLog: string;
};

export type SnapshotPaths = SnapshotFiles & { readonly dir: string };

/**
 * Returns the paths of a VM. Creates nothing, and looks up which disk the VM has. A list of 1,000 VMs makes 12,000
 * paths: `join` would normalize each of them, and the directories are normalized.
 */
export function vmPaths(dirs: Dirs, id: VmId): VmPaths {
  const stateDir = `${vmsDir(dirs)}/${id}`;
  return {
    stateDir,
    runDir: `${vmRunsDir(dirs)}/${id}`,
    jailDir: `${jailsDir(dirs)}/${id}`,
    disk: findDisk(stateDir).path,
    saveDir: `${stateDir}/${VM_NAMES.save}`,
    memoryCopy: `${stateDir}/${VM_NAMES.memoryCopy}`,
    console: `${stateDir}/${VM_NAMES.console}`,
    vmmLog: `${stateDir}/${VM_NAMES.vmmLog}`,
  };
}

/** The managed root of VMs' state directories. */
export function vmsDir(dirs: Dirs): string {
  return `${dirs.state}/${STATE_NAMES.vms}`;
}

/** The managed root of volumes. */
export function volumesDir(dirs: Dirs): string {
  return join(dirs.state, STATE_NAMES.volumes);
}

/** The managed root of snapshots. */
export function snapshotsDir(dirs: Dirs): string {
  return join(dirs.state, STATE_NAMES.snapshots);
}

/** Returns the paths of a snapshot's files, which follow from its id alone. */
export function snapshotPaths(dirs: Dirs, id: SnapshotId): SnapshotPaths {
  const dir = join(snapshotsDir(dirs), id);
  return { dir, memory: join(dir, SNAPSHOT_NAMES.memory), state: join(dir, SNAPSHOT_NAMES.state) };
}

/** The managed root of VMs' sockets. */
export function vmRunsDir(dirs: Dirs): string {
  return `${dirs.run}/${RUN_NAMES.vms}`;
}

/** The managed root of the root directories of jailed VMMs. */
export function jailsDir(dirs: Dirs): string {
  return `${dirs.state}/${STATE_NAMES.jails}`;
}
