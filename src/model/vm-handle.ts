import type { SnapshotId } from "#model/ids.ts";
import type { IsolationInForce } from "#model/isolation.ts";
import type { StartStage } from "#model/start-stage.ts";

/** Names one process for ever: a pid alone may be used again, and again after a reboot of the host. */
export type ProcessId = {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: clock ticks from the host's boot to the process' start. */
  readonly startTicks: number;
  /** /proc/sys/kernel/random/boot_id of the host. */
  readonly hostBootId: string;
};

/** How hearthd finds a VMM again. Plain data: it is stored, and outlives hearthd. */
export type VmHandle = {
  readonly driver: string;
  /** What runs the guest's instructions: `kvm`, or `tcg` for emulation. */
  readonly accel: "kvm" | "tcg";
  /**
   * All processes with the life of the VM: first the VMM itself, then those that work for it, such as the server of a
   * shared directory. They end with the VMM. Never what launched them.
   */
  readonly processes: readonly [vmm: ProcessId, ...helpers: ProcessId[]];
  /** What launched it and waits for its end; it ends with the VMM, which lives on without it. */
  readonly launcher?: ProcessId | undefined;
  /** Undefined for a VMM that a hearthd before isolation has started. */
  readonly isolation?: IsolationInForce | undefined;
  /** What it was restored from, and maps. */
  readonly snapshot?: SnapshotId | undefined;
  /**
   * Whether the guest's memory is a file that other VMs map, so that the VMM can free none of it. Undefined: a VMM
   * that an earlier hearthd has started, where one that was restored does.
   */
  readonly sharesMemory?: boolean | undefined;
  /** Ids of its disks, by their places. Undefined: a VMM that an earlier hearthd has started, whose disks have none. */
  readonly disks?: readonly string[] | undefined;
  /** Whether the guest reads these ids as the serials of its disks. */
  readonly diskSerials?: boolean | undefined;
  /** Where the VMM's `vmm.log` and the guest's `console.log` are. */
  readonly stateDir: string;
  /** Where the VMM may write what is saved of it. Undefined: the driver does not need it, or nothing can be saved. */
  readonly saveDir?: string | undefined;
  /** What the guest could not do of its identity, in its own words, made safe to print. */
  readonly guestWarnings?: readonly string[] | undefined;
  /** How long its start took. Undefined: a VMM that an earlier hearthd has started. */
  readonly startStages?: readonly StartStage[] | undefined;
  /** Unix sockets of the VMM, absolute. */
  readonly agentSocket: string;
  /** Where the agent listens when that socket is a vsock device's, which has many ports. */
  readonly agentVsockPort?: number | undefined;
  readonly monitorSocket: string;
  readonly consoleSocket: string;
  /** Of the guest at its start, which bounds what may be saved of it. Undefined for a VMM of an older hearthd. */
  readonly memoryBytes?: number | undefined;
};

/** Where the agent of a VM is reached. */
export type AgentAddress = Pick<VmHandle, "agentSocket" | "agentVsockPort" | "isolation">;

/**
 * Why a VMM ended. `guest`: the guest powered itself off. `rebooted`: it reset the machine, to boot again. `panicked`: its
 * kernel panicked. All three are what the guest says, which may lie of itself. `asked`: hearthd ended it. `died`: nobody
 * asked for it. `unseen`: it was gone when hearthd came back, so nobody knows.
 */
export const EXIT_REASONS = ["guest", "rebooted", "panicked", "asked", "died", "unseen"] as const;

export type ExitReason = (typeof EXIT_REASONS)[number];

/** How a VMM ended, as far as anybody saw it. */
export type VmExit = {
  readonly reason: ExitReason;
  readonly code?: number | undefined;
  readonly signal?: string | undefined;
  readonly atMs: number;
};
