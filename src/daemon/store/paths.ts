import { join } from "node:path";
import { RUN_NAMES, SNAPSHOT_NAMES, STATE_NAMES, VM_NAMES } from "#base/file-names.ts";
import type { Dirs } from "#base/hearth-dirs.ts";
import type { SnapshotFiles } from "#drivers/vm-driver.ts";
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

export type SnapshotPaths = SnapshotFiles & { readonly dir: string };

/** Nothing is made; which disk it has is looked up. */
export function vmPaths(dirs: Dirs, id: VmId): VmPaths {
  const stateDir = join(vmsDir(dirs), id);
  return {
    stateDir,
    runDir: join(vmRunsDir(dirs), id),
    jailDir: join(jailsDir(dirs), id),
    disk: findDisk(stateDir).path,
    saveDir: join(stateDir, VM_NAMES.save),
    memoryCopy: join(stateDir, VM_NAMES.memoryCopy),
    console: join(stateDir, VM_NAMES.console),
    vmmLog: join(stateDir, VM_NAMES.vmmLog),
  };
}

/** The managed root of what VMs keep. */
export function vmsDir(dirs: Dirs): string {
  return join(dirs.state, STATE_NAMES.vms);
}

/** The managed root of volumes. */
export function volumesDir(dirs: Dirs): string {
  return join(dirs.state, STATE_NAMES.volumes);
}

/** The managed root of snapshots. */
export function snapshotsDir(dirs: Dirs): string {
  return join(dirs.state, STATE_NAMES.snapshots);
}

/** Where a snapshot's files are; they follow from its id alone. */
export function snapshotPaths(dirs: Dirs, id: SnapshotId): SnapshotPaths {
  const dir = join(snapshotsDir(dirs), id);
  return { dir, memory: join(dir, SNAPSHOT_NAMES.memory), state: join(dir, SNAPSHOT_NAMES.state) };
}

/** The managed root of VMs' sockets. */
export function vmRunsDir(dirs: Dirs): string {
  return join(dirs.run, RUN_NAMES.vms);
}

/** The managed root of VMMs' own root directories, for those that have one. */
export function jailsDir(dirs: Dirs): string {
  return join(dirs.state, STATE_NAMES.jails);
}
