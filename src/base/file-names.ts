/**
 * The names of Hearth's files and directories below the directories of hearth-dirs.ts. They are stored state: another
 * name needs a migration. docs/on-disk.md describes each of them.
 */

export const CONFIG_FILE = "config.toml";

/** Names in the state directory. */
export const STATE_NAMES = {
  database: "hearth.db",
  log: "hearthd.log",
  vms: "vms",
  volumes: "volumes",
  snapshots: "snapshots",
  jails: "jails",
} as const;

/** Names in the run directory. */
export const RUN_NAMES = { socket: "hearthd.sock", lock: "hearthd.lock", vms: "vms" } as const;

/** Names in the cache directory. */
export const CACHE_NAMES = {
  images: "images",
  kernels: "kernels",
  initramfs: "initramfs",
  kernelElfs: "kernel-elfs",
  refs: "refs",
  locks: "locks",
  staging: "tmp",
  firecracker: "firecracker",
  kvmVerdict: "kvm.json",
} as const;

/** Names in a VM's state directory. */
export const VM_NAMES = {
  /** A disk without layers. */
  rawDisk: "disk.raw",
  /** The guest's writes over frozen disk layers. */
  layeredDisk: "disk.qcow2",
  /** A disk that is not complete yet. */
  newDisk: "disk.new",
  flatDisk: "flat.raw",
  /** The directory that a VMM writes to while its VM is saved. */
  save: "save",
  /** A copy of a guest memory file for a VMM that cannot map it read-only. It is deleted when the VMM has loaded it. */
  memoryCopy: "memory.own",
  memoryBase: "memory.base",
  /** A copy of the base, made for a VMM that saves changes into it. */
  memoryBaseCopy: "memory.base.copy",
  /** Empty: exists while the VM's own layer has only what was written since its last resume. */
  resumed: "resumed",
  /** The name of that marker in an older Hearth. */
  olderResumed: "woken",
  console: "console.log",
  vmmLog: "vmm.log",
} as const;

/** Names in a snapshot's directory, beside its disks. */
export const SNAPSHOT_NAMES = { memory: "memory", state: "state", emptyDisk: "empty.qcow2" } as const;

/** The disk in a volume's directory. */
export const VOLUME_DISK = "volume.raw";

/** QEMU's sockets in a VM's run directory. */
export const QEMU_SOCKETS = {
  monitor: "qmp.sock",
  console: "console.sock",
  agent: "agent.sock",
  migration: "out.sock",
} as const;

/** Firecracker's sockets and pipes in a VM's run directory. */
export const FIRECRACKER_FILES = {
  api: "api.sock",
  vsock: "vsock.sock",
  console: "console.fifo",
  log: "log.fifo",
  metrics: "metrics.fifo",
} as const;
