import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { SNAPSHOT_NAMES, VM_NAMES, VOLUME_DISK } from "#base/file-names.ts";
import type { VmId } from "#model/ids.ts";

/** The directories of the helper. Root gives them when it starts the helper, and no request changes them. */
export type HelperRoots = {
  /** Contains a directory for each VM, with its disk. */
  readonly vms: string;
  /** Contains a directory for each volume, with its disk. */
  readonly volumes: string;
  /** Contains a directory for each snapshot, with its files. */
  readonly snapshots: string;
  /** Contains a directory for each VM, with its sockets. */
  readonly runs: string;
  /** Contains a directory for each VM whose VMM has a separate root directory. */
  readonly jails: string;
  /** The uid leases of the whole host: every hearthd uses the same directory. */
  readonly leases: string;
  /** Contains a file for the network namespace of each VM of the whole host. */
  readonly networks: string;
  /** The mount point of the kernel's cgroup v2 tree. */
  readonly cgroups: string;
};

/** The parent of all VMs' cgroups of the host. */
export const CGROUP_PARENT = "hearth";

/** The names of a VM's disk. */
export const DISK_FILES = [VM_NAMES.layeredDisk, VM_NAMES.rawDisk] as const;
export const SAVE_DIR = VM_NAMES.save;
export const MEMORY_FILE = SNAPSHOT_NAMES.memory;
export const VOLUME_FILE = VOLUME_DISK;

export type HelperPaths = {
  readonly stateDir: string;
  /** The possible disks, one of which exists. */
  readonly disks: readonly string[];
  /** The directory that the VMM writes a snapshot to. */
  readonly saveDir: string;
  readonly memoryCopy: string;
  readonly memoryBase: string;
  readonly vmmLog: string;
  readonly runDir: string;
  readonly jail: string;
  readonly cgroup: string;
};

/** Returns the paths of a VM, which depend only on the id. */
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

/** Lists the VMs that have a directory in one of the roots. */
export function listVmDirs(root: string): string[] {
  if (!existsSync(root)) return [];
  const dirs = readdirSync(root, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return dirs.map(({ name }) => name).filter((name) => name.startsWith("vm-"));
}
