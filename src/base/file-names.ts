/**
 * The names of Hearth's own files and directories, below those of hearth-dirs.ts. They are stored state: another name needs a
 * migration. docs/on-disk.md says what each of them holds.
 */

export const CONFIG_FILE = "config.toml";

/** In the state directory. */
export const STATE_NAMES = {
  database: "hearth.db",
  log: "hearthd.log",
  vms: "vms",
  volumes: "volumes",
  snapshots: "snapshots",
  jails: "jails",
} as const;

/** In the run directory. */
export const RUN_NAMES = { socket: "hearthd.sock", lock: "hearthd.lock", vms: "vms" } as const;

/** In the cache directory. */
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

/** In a VM's state directory. */
export const VM_NAMES = {
  /** Holds a disk without layers. */
  rawDisk: "disk.raw",
  /** Holds what was written over frozen layers. */
  layeredDisk: "disk.qcow2",
  /** Holds a disk that is not complete yet. */
  newDisk: "disk.new",
  flatDisk: "flat.raw",
  /** Holds what a VMM writes while its VM is saved. */
  save: "save",
  /** A copy of a guest memory file for a VMM that cannot map it read-only, until the VMM has it. */
  memoryCopy: "memory.own",
  memoryBase: "memory.base",
  /** A copy of the base, on its way to a VMM that saves changes into it. */
  memoryBaseCopy: "memory.base.copy",
  console: "console.log",
  vmmLog: "vmm.log",
} as const;

/** In a snapshot's directory, beside its disks. */
export const SNAPSHOT_NAMES = { memory: "memory", state: "state", emptyDisk: "empty.qcow2" } as const;

/** In a volume's directory. */
export const VOLUME_DISK = "volume.raw";

/** In a VM's run directory, for QEMU. */
export const QEMU_SOCKETS = {
  monitor: "qmp.sock",
  console: "console.sock",
  agent: "agent.sock",
  migration: "out.sock",
} as const;

/** In a VM's run directory, for Firecracker. */
export const FIRECRACKER_FILES = {
  api: "api.sock",
  vsock: "vsock.sock",
  console: "console.fifo",
  log: "log.fifo",
  metrics: "metrics.fifo",
} as const;
