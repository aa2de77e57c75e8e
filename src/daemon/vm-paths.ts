import { join } from "node:path";
import type { Folders } from "#base/folders.ts";
import type { VmId } from "#model/ids.ts";

/** Where a VM's files are. They follow from its id alone, so a crash cannot lose them. */
export type VmPaths = {
  readonly stateDir: string;
  readonly runDir: string;
  readonly jailDir: string;
  readonly disk: string;
  readonly console: string;
  readonly vmmLog: string;
};

/** Pure; nothing is made. */
export function vmPaths(folders: Folders, id: VmId): VmPaths {
  const stateDir = join(vmsDir(folders), id);
  return {
    stateDir,
    runDir: join(vmRunsDir(folders), id),
    jailDir: join(jailsDir(folders), id),
    disk: join(stateDir, "disk.raw"),
    console: join(stateDir, "console.log"),
    vmmLog: join(stateDir, "vmm.log"),
  };
}

/** The managed root of what VMs keep. */
export function vmsDir(folders: Folders): string {
  return join(folders.state, "vms");
}

/** The managed root of volumes. */
export function volumesDir(folders: Folders): string {
  return join(folders.state, "volumes");
}

/** The managed root of VMs' sockets. */
export function vmRunsDir(folders: Folders): string {
  return join(folders.run, "vms");
}

/** The managed root of VMMs' own root folders, for those that have one. */
export function jailsDir(folders: Folders): string {
  return join(folders.state, "jails");
}
