/**
 * The contract of all drivers. A driver turns a plan into a VMM process and is asked for everything else by the VM's
 * handle, which is plain data: it is stored, and a hearthd that was restarted uses it as well.
 *
 *   1. `features` says what this driver can do on this host, `canRun` whether it can run a certain VM.
 *   2. `boot` or `restore` starts the VMM and resolves with the handle. After a restart, `recover` replaces this step.
 *   3. `watch` reports the VMM's end, its silence and its status.
 *   4. `pause`, `resume`, limits, the balloon and `save` work on the running VM.
 *   5. `stop` ends the VMM.
 */
import type { BootIsolation } from "#drivers/boot-isolation.ts";
import type { OnProgress } from "#base/progress.ts";
import type { VmExit, VmHandle } from "#model/vm-handle.ts";
import type { VmId, VmName } from "#model/ids.ts";
import type { RateLimit } from "#model/rate-limit.ts";
import type { Init, Network, VmSpec } from "#model/vm-spec.ts";
import type { NicPlan } from "#model/nic.ts";

/**
 * A disk as the guest sees it. A driver with the feature `diskSerials` gives the guest the id as the disk's serial, and
 * the position in the list means nothing. With other drivers the position alone tells disks apart: it is the letter
 * (vda, vdb, …), also in each VM that is restored from a snapshot of this one.
 */
export type DiskPlan = {
  /** Letters, digits and hyphens, at most 20 as in a virtio serial. Unique among the disks of a VM. */
  readonly id: string;
  readonly path: string;
  readonly format: "raw" | "qcow2";
  /** The backing files of a qcow2 disk, which are only read. */
  readonly backing?: readonly string[] | undefined;
  readonly readOnly: boolean;
  /** The limit that is in force before the guest runs. Undefined: no limit. */
  readonly limit?: RateLimit | undefined;
};

/** Limits of devices by device id. A device that is not named keeps its limit; undefined removes the limit. */
export type DeviceLimits = {
  readonly disks?: Readonly<Record<string, RateLimit | undefined>>;
  /** Requires the feature `limits.net`. */
  readonly nics?: Readonly<Record<string, RateLimit | undefined>>;
};

/** Everything that a driver is given to start a VMM. Paths are absolute; the driver looks nothing up again. */
export type BootPlan = {
  readonly id: VmId;
  readonly name: VmName;
  /** The directory of the files that stay after the VMM, such as `vmm.log`. Exists. */
  readonly stateDir: string;
  /** The directory of the VMM's sockets. Exists, with mode 0700; its path is short enough for socket paths. */
  readonly runDir: string;
  readonly kernel: string;
  readonly initramfs: string;
  /** Arguments of the kernel command line that hearthd or the user wants; the driver adds its own. */
  readonly kernelArgs: readonly string[];
  readonly disks: readonly DiskPlan[];
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly nics: readonly NicPlan[];
  readonly init: Init;
  readonly nested: boolean;
  /** The largest file that the VMM may write. Undefined: the size limit of a disk. */
  readonly fileMaxBytes?: number | undefined;
  /** The isolation of the VMM. */
  readonly isolation: BootIsolation;
  /**
   * The directory in which the VMM writes snapshots. Exists, and belongs to the VMM. Undefined: the VM is never saved.
   */
  readonly saveDir?: string | undefined;
};

/**
 * The features of a driver on this host. Callers branch on this, never on the driver's name. `canRun` says whether the
 * driver can run a certain VM.
 */
export type DriverFeatures = {
  /** When `ok` is false, no other field is valid. */
  readonly available:
    { readonly ok: true } | { readonly ok: false; readonly reason: string; readonly hint: string };
  /** The VMM's version, such as "7.2.22". */
  readonly version?: string | undefined;
  readonly accel: "kvm" | "tcg";
  /** True while it is unknown whether KVM works: the first VM may then get another `accel`. */
  readonly accelAssumed?: boolean | undefined;
  /** The kernel file that the VMM boots: a distribution's compressed kernel, or the ELF file inside of it. */
  readonly kernelFormat: "bzimage" | "elf";
  /** The rank among drivers that can run a VM: the highest is chosen. */
  readonly preference: number;
  readonly pause: boolean;
  /** True when the guest reads the id of a disk as its serial, see `DiskPlan`. */
  readonly diskSerials: boolean;
  /** True when a disk may be a qcow2 file with backing files; otherwise it is one raw file. */
  readonly layeredDisks: boolean;
  /** The features of snapshots with memory. Undefined where there are none; `snapshotsRefused` has the reason. */
  readonly snapshots?: SnapshotFeatures | undefined;
  readonly snapshotsRefused?: string | undefined;
  readonly networks: readonly Network[];
  /** The most CPUs of a guest that runs VMs itself, and why no more. Undefined: no nested VMs. */
  readonly nested: { readonly cpusMax: number; readonly reason?: string } | undefined;
  /** The kinds of devices that can be limited, both at boot and while the VM runs. */
  readonly limits: { readonly disk: boolean; readonly net: boolean };
  /** True when a running guest can be made to give memory back, and be given it again. */
  readonly balloon: boolean;
  /** The devices that can be plugged into a running VM: none, with any driver so far. */
  readonly hotplug: { readonly disk: false };
  /** Sentences that `show` and `doctor` print: what this host does not guarantee with this driver. */
  readonly caveats: readonly string[];
  /** The longest time from boot to the agent's first answer; longer is a hang. Emulation needs more than KVM. */
  readonly agentDeadlineMs: number;
  /** The number of times that a boot that hung is repeated, with a driver that is known to hang at times. */
  readonly bootRetries: number;
  /** The most memory that the VMM takes besides the guest's memory. */
  readonly vmmOverheadBytes: number;
};

/** The part of a VM's spec that decides whether a driver can run the VM on this host. */
export type RunSpec = Pick<VmSpec, "cpus" | "network" | "nested" | "diskLimit" | "netLimit">;

/** The reason why a driver cannot run a VM on this host, in the form of an error. */
export type Lacking = {
  /** `vmm.missing` when the driver can run no VM at all here. */
  readonly code: "vmm.missing" | "feature.missing";
  /** A sentence that names the feature or the flag. */
  readonly message: string;
  readonly hint: string;
};

export type SnapshotFeatures = {
  /**
   * The format of a restored VM's disk: `qcow2` is a new layer over the snapshot's layers, `raw` is a copy of the disk.
   */
  readonly diskFormat: "qcow2" | "raw";
  /**
   * The part of the compatibility key that the VMM decides: its version, CPU model and machine. A snapshot can only be
   * restored where this text is equal.
   */
  readonly vmmFingerprint: string;
  /** Sentences: what a restored VM lacks in comparison with one that was booted. */
  readonly caveats: readonly string[];
};

/** `terminate`: SIGTERM to the VMM, which ends at once without asking the guest. `kill`: SIGKILL. */
export type StopMode = "terminate" | "kill";

/** The optional part of a driver that sets limits. Exists when `limits.disk` or `limits.net` is true. */
export interface RateLimiter {
  /**
   * Sets limits of devices of a running VM. Ignores devices that the VM does not have.
   * @throws HearthError `vm.gone`
   */
  setLimits(handle: VmHandle, limits: DeviceLimits, signal: AbortSignal): Promise<void>;
}

/** The memory that a guest has now, and the memory that it was started with, which is the most it can have. */
export type GuestMemory = { readonly bytes: number; readonly maxBytes: number };

/** The optional part of a driver that changes a guest's memory. Exists when the feature `balloon` is true. */
export interface Ballooner {
  /** @throws HearthError `vm.gone` */
  readMemory(handle: VmHandle, signal: AbortSignal): Promise<GuestMemory>;
  /**
   * Asks the guest to reduce or extend its memory to `bytes`. Resolves when it has so much, or when it makes no more
   * progress: a guest gives only what it can spare. The balloon's target stays set after that.
   * @throws HearthError `vm.gone`; `feature.missing` for less memory than now where the VMM could not free the memory
   * of this VM, before the guest is asked
   */
  setMemory(handle: VmHandle, bytes: number, signal: AbortSignal): Promise<GuestMemory>;
}

/**
 * Counters of a VMM, from the moment on when this hearthd began to read them. After a restart, hearthd begins with what
 * was not read meanwhile. Disks are summed up.
 */
export type VmmMetrics = {
  /** The number of times that the guest's CPUs waited for a device of the VMM. */
  readonly vcpuExits: number;
  readonly blockReadBytes: number;
  readonly blockWriteBytes: number;
  readonly blockReadOps: number;
  readonly blockWriteOps: number;
  /** The number of times that a disk waited because of its limit. */
  readonly blockThrottledCount: number;
  readonly vsockToGuestBytes: number;
  readonly vsockFromGuestBytes: number;
  /** Log lines and metrics that the VMM could not write because they were not read in time. */
  readonly missedLogCount: number;
  readonly missedMetricsCount: number;
  /** System calls that the VMM's seccomp filter refused. */
  readonly seccompFaultCount: number;
};

/** The optional part of a driver that reads a VMM's counters. */
export interface Meter {
  /** Reads the counters as they are now. @throws HearthError `vm.gone`, `vmm.unresponsive` */
  readMetrics(handle: VmHandle, signal: AbortSignal): Promise<VmmMetrics>;
}

/** Absolute paths of a snapshot's two files: the guest memory file, which VMMs map, and the VM state file. */
export type SnapshotFiles = {
  readonly memory: string;
  readonly state: string;
  /** True for files that are deleted soon, such as those of a fork: they are not synced to disk. */
  readonly temporary?: boolean | undefined;
};

/** Hooks that run while a VM is saved. Each is called once, in this order. */
export type SaveHooks = {
  /**
   * Makes the VMM the owner of `VM_NAMES.memoryBaseCopy`, which the driver has created in the VM's state directory.
   * Called only by drivers that save changes into an earlier guest memory file. Undefined where the VMM has hearthd's
   * uid.
   */
  readonly giveMemoryBase?: (() => Promise<void>) | undefined;
  /** Called just before the vCPUs are paused: has the guest sync its disks and freeze its processes. */
  readonly quiesce: () => Promise<void>;
  /** Called while the vCPUs are paused: the disks are in the state that belongs to the guest memory file. */
  readonly onPaused: () => Promise<void>;
};

/**
 * The optional part of a driver that saves and restores VMs with their memory. Exists when the feature `snapshots`
 * does.
 * A snapshot takes three steps: `save` (the VM pauses for a moment), `finalize` (verifies the files) and `restore`.
 */
export interface Snapshotter {
  /**
   * Saves a running or paused VM into files that do not exist yet, and leaves it running or paused as before. Does so
   * on failure too, and then leaves no files. The files can be restored once `finalize` has resolved.
   * @throws HearthError `vm.gone`, `snapshot.failed`
   */
  save(handle: VmHandle, saved: SnapshotFiles, hooks: SaveHooks, signal: AbortSignal): Promise<void>;
  /**
   * Loads a saved VM into a VMM once, to prove that it can be loaded. The guest never runs. The files are final after
   * that.
   * @param plan the plan of a VM to be restored; its disks are not written to
   * @throws HearthError `snapshot.failed` with the VMM's reason
   */
  finalize(plan: BootPlan, saved: SnapshotFiles, signal: AbortSignal): Promise<void>;
  /**
   * Starts a VM like `boot`, but from a snapshot: the guest continues from the moment of the save. VMMs open the files
   * read-only; the files must exist as long as a VM uses them. On failure nothing of this VM is left on the host.
   * @throws HearthError `snapshot.failed` when the VMM refuses the snapshot, and what `boot` throws
   */
  restore(
    plan: BootPlan,
    saved: SnapshotFiles,
    onProgress: OnProgress,
    signal: AbortSignal,
  ): Promise<VmHandle>;
}

export interface VmDriver {
  readonly name: string;
  readonly rateLimiter?: RateLimiter | undefined;
  readonly ballooner?: Ballooner | undefined;
  readonly meter?: Meter | undefined;
  readonly snapshotter?: Snapshotter | undefined;
  features(signal: AbortSignal): Promise<DriverFeatures>;
  /**
   * Decides whether this driver can run such a VM on this host, without starting anything.
   * @returns what the driver lacks; undefined when no feature that the VM needs is missing
   */
  canRun(spec: RunSpec, signal: AbortSignal): Promise<Lacking | undefined>;
  /**
   * Starts a VM. Resolves once the VMM runs the guest's kernel, before the agent answers. The VMM has its own session
   * and outlives hearthd. On failure nothing of this VM is left on the host.
   * @throws HearthError `vmm.missing`, `vmm.failed` with the VMM's exit code and stderr tail
   */
  boot(plan: BootPlan, onProgress: OnProgress, signal: AbortSignal): Promise<VmHandle>;
  /** Tells, after a restart of hearthd, whether this very VMM still runs. A reused pid is recognized, and means no. */
  recover(handle: VmHandle): Promise<boolean>;
  /**
   * Follows a running VMM, whether started or recovered by this hearthd: reports its end, and whether it answers. Ends
   * with `signal` or with the VMM. There is one watcher per VM.
   */
  watch(handle: VmHandle, on: VmmWatcher, signal: AbortSignal): void;
  /** Pauses the vCPUs; a paused VM stays paused. Never called where the feature `pause` is false. */
  pause(handle: VmHandle, signal: AbortSignal): Promise<void>;
  /** Resumes the vCPUs. Does nothing to a running VM: recovery resumes VMs without knowing their state. */
  resume(handle: VmHandle, signal: AbortSignal): Promise<void>;
  /** Ends the VMM. Resolves when the process is gone, also when it was gone before. Idempotent. */
  stop(handle: VmHandle, mode: StopMode, signal: AbortSignal): Promise<VmExit>;
}

/**
 * The state of the vCPUs as the VMM tells it. They also do not run in the last three: the host's disk is full or fails,
 * and the guest waits for it; or the VMM cannot continue.
 */
export type VmmStatus = "running" | "paused" | "disk-full" | "disk-failed" | "broken";

export type VmmWatcher = {
  exited(exit: VmExit): void;
  /** Called while the VMM does not answer, with the time since its last answer; with 0 when it answers again. */
  silent(silentMs: number): void;
  /** Called with each status that the VMM tells. It may be false, and late. */
  status?(status: VmmStatus): void;
};
