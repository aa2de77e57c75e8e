import { join } from "node:path";
import { SNAPSHOT_NAMES, VM_NAMES, VOLUME_DISK } from "#base/file-names.ts";
import type { VmId } from "#model/ids.ts";

/** The directories that the helper works in; given once, by who starts it, and never with a request. */
export type HelperRoots = {
  /** Holds a directory for each VM, with its disk. */
  readonly vms: string;
  /** Holds a directory for each volume, with its disk. */
  readonly volumes: string;
  /** Holds a directory for each snapshot, with its files. */
  readonly snapshots: string;
  /** Holds a directory for each VM, with its sockets. */
  readonly runs: string;
  /** Holds a directory for each VM whose VMM has a root directory of its own. */
  readonly jails: string;
  /** Of the whole host: every hearthd has the same. */
  readonly leases: string;
  /** Where the kernel's cgroup v2 tree is. */
  readonly cgroups: string;
};

/** Below the cgroups' root; of the whole host, too. */
export const CGROUP_PARENT = "hearth";

/** What the VMM writes of a VM's own files. */
export const DISK_FILES = [VM_NAMES.layeredDisk, VM_NAMES.rawDisk] as const;
export const SAVE_DIR = VM_NAMES.save;
export const MEMORY_FILE = SNAPSHOT_NAMES.memory;
export const VOLUME_FILE = VOLUME_DISK;

export type HelperPaths = {
  readonly stateDir: string;
  /** One of them is there. */
  readonly disks: readonly string[];
  /** Where its VMM writes what is saved of it. */
  readonly saveDir: string;
  readonly memoryCopy: string;
  readonly memoryBase: string;
  readonly vmmLog: string;
  readonly runDir: string;
  readonly jail: string;
  readonly cgroup: string;
};

/** They follow from the id alone. */
export function helperPaths(roots: HelperRoots, id: VmId): HelperPaths {
  const stateDir = join(roots.vms, id);
  return {
    stateDir,
    disks: DISK_FILES.map((name) => join(stateDir, name)),
    saveDir: join(stateDir, SAVE_DIR),
    memoryCopy: join(stateDir, VM_NAMES.memoryCopy),
    memoryBase: join(stateDir, VM_NAMES.memoryBaseCopy),
    vmmLog: join(stateDir, VM_NAMES.vmmLog),
    runDir: join(roots.runs, id),
    jail: join(roots.jails, id),
    cgroup: join(roots.cgroups, CGROUP_PARENT, id),
  };
}
