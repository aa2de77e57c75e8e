import type { SnapshotId } from "#model/ids.ts";
import type { IsolationInForce } from "#model/isolation.ts";
import type { StartStage } from "#model/start-stage.ts";

/** Identifies one process for ever. A pid alone may be reused, also after a reboot of the host. */
export type ProcessId = {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: clock ticks from the host's boot to the process' start. */
  readonly startTicks: number;
  /** /proc/sys/kernel/random/boot_id of the host. */
  readonly hostBootId: string;
};

/** The data with which a restarted hearthd adopts a VMM. Plain data: it is stored, and outlives hearthd. */
export type VmHandle = {
  readonly driver: string;
  /** The accelerator that runs the guest's instructions: `kvm`, or `tcg` for emulation. */
  readonly accel: "kvm" | "tcg";
  /**
   * All processes that live as long as the VM: first the VMM itself, then its helpers, such as the server of a shared
   * directory. Does not contain the launcher.
   */
  readonly processes: readonly [vmm: ProcessId, ...helpers: ProcessId[]];
  /** The process that launched the VMM and waits for its end. The VMM lives on without it. */
  readonly launcher?: ProcessId | undefined;
  /** Undefined for VMMs of a hearthd older than isolation. */
  readonly isolation?: IsolationInForce | undefined;
  /** The snapshot that the VMM was restored from, whose memory file it maps. */
  readonly snapshot?: SnapshotId | undefined;
  /**
   * True if the guest's memory is a file that other VMs map, so that the VMM can free none of it. Undefined for VMMs of
   * an older hearthd, where every restored VMM shares its memory.
   */
  readonly sharesMemory?: boolean | undefined;
  /** The ids of its disks, in device order. Undefined for VMMs of an older hearthd, whose disks have no ids. */
  readonly disks?: readonly string[] | undefined;
  /** True if the guest reads these ids as the serials of its disks. */
  readonly diskSerials?: boolean | undefined;
  /** The directory of the VMM's `vmm.log` and the guest's `console.log`. */
  readonly stateDir: string;
  /**
   * The directory to which the VMM may write a snapshot. Undefined if the driver does not need one, or cannot save the
   * VM.
   */
  readonly saveDir?: string | undefined;
  /** The parts of the guest identity that the guest could not set, in its own words, made safe to print. */
  readonly guestWarnings?: readonly string[] | undefined;
  /** The times of the start's stages. Undefined for VMMs of an older hearthd. */
  readonly startStages?: readonly StartStage[] | undefined;
  /** A Unix socket of the VMM, absolute, like the two below. */
  readonly agentSocket: string;
  /** The agent's port, if that socket belongs to a vsock device, which has many ports. */
  readonly agentVsockPort?: number | undefined;
  readonly monitorSocket: string;
  readonly consoleSocket: string;
  /** The guest memory at the start, which bounds the size of a snapshot. Undefined for VMMs of an older hearthd. */
  readonly memoryBytes?: number | undefined;
};

/** The address of a VM's agent. */
export type AgentAddress = Pick<VmHandle, "agentSocket" | "agentVsockPort" | "isolation">;

/**
 * The reasons for the end of a VMM. `guest`: the guest powered itself off. `rebooted`: it reset the machine, to boot
 * again. `panicked`: its kernel panicked. All three are the guest's claim, and may be lies. `asked`: hearthd ended it.
 * `died`: it ended without a request. `unseen`: it ended while hearthd was not running, so the reason is unknown.
 */
export const EXIT_REASONS = ["guest", "rebooted", "panicked", "asked", "died", "unseen"] as const;

export type ExitReason = (typeof EXIT_REASONS)[number];

/** The end of a VMM, as far as hearthd saw it. */
export type VmExit = {
  readonly reason: ExitReason;
  readonly code?: number | undefined;
  readonly signal?: string | undefined;
  readonly atMs: number;
};
