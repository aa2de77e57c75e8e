import { GIB, MIB } from "#base/sizes.ts";

/** Every number that bounds Hearth, with its reason. */
export const LIMITS = {
  /** Firecracker's own limit, MAX_SUPPORTED_VCPUS; kept for all drivers, so that a VM may move. */
  cpusMax: 32,
  /** Debian's cloud kernel with our initramfs does not unpack in less. */
  memoryMinBytes: 128 * MIB,
  memoryMaxBytes: 1024 * GIB,
  /** ext4 with a journal and room for a file. */
  diskMinBytes: 64 * MIB,
  /** BG-002: banger's MaxDiskBytes. */
  diskMaxBytes: 128 * GIB,
  /** A VM's machine has room for 24 devices at most (QEMU's microvm, Firecracker); the others are Hearth's own. */
  volumesMax: 8,
  /** Less, and the guest's journal waits longer for its disk than Linux lets a task wait (120 s). */
  bandwidthMinBytesPerS: 64 * 1024,
  bandwidthMaxBytesPerS: 1024 * GIB,
  opsMinPerS: 10,
  opsMaxPerS: 10_000_000,
  /** Of one pool: each waits with its memory. */
  poolMax: 100,
  /** Of one request; who wants more asks again. */
  forksMax: 100,
  /** Linux' PATH_MAX, with its end. */
  mountPathMaxBytes: 4095,
  /** Of one VM: a list of a thousand VMs still fits into one answer. */
  labelsMax: 64,
  labelValueMaxBytes: 255,
  lifetimeMinMs: 1_000,
  lifetimeMaxMs: 365 * 86_400_000,
  /** Linux' MAX_ARG_STRLEN: one argument or variable, with its end. */
  argumentMaxBytes: 128 * 1024,
  /** All arguments and variables of one exec; a quarter of Linux' usual stack limit of 8 MiB. */
  argumentsMaxBytes: 2 * MIB,
  /** All variables of a VM or of one exec: half of an exec's arguments, and every list of VMs reads them. */
  variablesMaxBytes: MIB,
  /** A request in JSON, which is in memory several times while it is read: as much as all variables. */
  requestMaxBytes: MIB,
  /** COMMAND_LINE_SIZE of x86 is 2048; the rest is Hearth's own part. */
  bootArgsMaxBytes: 1024,
  /** Operations that have ended and can still be shown: detached ones, and as many others. They take memory. */
  operationsKept: 100,
  /** Detached operations under way: no connection bounds them. */
  detachedMax: 100,
  /** For one request that waits for an operation's end; who wants to wait longer asks again. */
  operationWaitMaxMs: 600_000,
  /** `sun_path` is 108 bytes with its end; Node cuts longer ones silently. */
  socketPathMaxBytes: 107,
  /** What one VM's console or VMM log may take on disk; as much again is kept of what came before. */
  logFileMaxBytes: 4 * MIB,
} as const;
