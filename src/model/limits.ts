import { GIB, MIB } from "#base/sizes.ts";

/** All limits of Hearth, with their reasons. */
export const LIMITS = {
  /** Firecracker's limit, MAX_SUPPORTED_VCPUS; kept for all drivers, so that a VM may move. */
  cpusMax: 32,
  /** Debian's cloud kernel with Hearth's initramfs does not unpack in less. */
  memoryMinBytes: 128 * MIB,
  memoryMaxBytes: 1024 * GIB,
  /** Room for ext4 with a journal and a file. */
  diskMinBytes: 64 * MIB,
  /** A choice, not a technical limit. */
  diskMaxBytes: 128 * GIB,
  /** A VM's machine has at most 24 device slots (QEMU's microvm, Firecracker); Hearth uses the others. */
  volumesMax: 8,
  /** Below this, the guest's journal waits longer for its disk than Linux lets a task wait (120 s). */
  bandwidthMinBytesPerS: 64 * 1024,
  bandwidthMaxBytesPerS: 1024 * GIB,
  opsMinPerS: 10,
  opsMaxPerS: 10_000_000,
  /** VMs in one pool: each takes its memory while it waits. */
  poolMax: 100,
  /** Copies in one request; more take further requests. */
  forksMax: 100,
  /** Rules of one network policy. */
  policyRulesMax: 1_000,
  /** The longest name of DNS (RFC 1035), with what says that it is a domain. */
  policyTargetMaxChars: 260,
  /** Published ports of one VM. */
  publishedPortsMax: 100,
  /** Private networks of one VM. */
  privateNetworksMax: 8,
  /** Linux' PATH_MAX, including the terminating NUL. */
  mountPathMaxBytes: 4095,
  /** Labels of one VM: a list of a thousand VMs still fits into one answer. */
  labelsMax: 64,
  labelValueMaxBytes: 255,
  lifetimeMinMs: 1_000,
  lifetimeMaxMs: 365 * 86_400_000,
  /** Linux' MAX_ARG_STRLEN: one argument or variable, including the terminating NUL. */
  argumentMaxBytes: 128 * 1024,
  /** All arguments and variables of one exec; a quarter of Linux' usual stack limit of 8 MiB. */
  argumentsMaxBytes: 2 * MIB,
  /** All variables of a VM or of one exec: half of an exec's arguments, because every list of VMs reads them. */
  variablesMaxBytes: MIB,
  /** A JSON request, several copies of which are in memory while it is read: as much as all variables. */
  requestMaxBytes: MIB,
  /** COMMAND_LINE_SIZE of x86 is 2048; Hearth's arguments take the rest. */
  bootArgsMaxBytes: 1024,
  /** Ended operations that can still be shown: this many detached ones, and as many others. They take memory. */
  operationsKept: 100,
  /** Detached operations under way, which are not limited by connections. */
  detachedMax: 100,
  /** The longest time that one request waits for an operation; a client can ask again. */
  operationWaitMaxMs: 600_000,
  /** `sun_path` has 108 bytes including the terminating NUL; Node silently cuts longer ones. */
  socketPathMaxBytes: 107,
  /** The size of one VM's console or VMM log on disk. The rotated part may have the same size. */
  logFileMaxBytes: 4 * MIB,
} as const;
