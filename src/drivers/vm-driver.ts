import type { BootIsolation } from "#drivers/boot-isolation.ts";
import type { OnProgress } from "#base/progress.ts";
import type { VmExit, VmHandle } from "#model/vm-handle.ts";
import type { VmId, VmName } from "#model/ids.ts";
import type { RateLimit } from "#model/rate-limit.ts";
import type { Init, Network, VmSpec } from "#model/vm-spec.ts";
import type { NicPlan } from "#model/nic.ts";

/**
 * A disk as the guest sees it. A driver with the feature `diskSerials` gives the guest the id as the disk's serial, and
 * the place in the list means nothing. With the others the place is all that tells disks apart: it is the letter (vda,
 * vdb, …), in each VM that is restored from what was saved of this one, too.
 */
export type DiskPlan = {
  /** Letters, digits and hyphens, 20 at most, as a virtio disk has no more room; no two disks of a VM have the same. */
  readonly id: string;
  readonly path: string;
  readonly format: "raw" | "qcow2";
  /** The files that a qcow2 lies on, which are only read. */
  readonly backing?: readonly string[] | undefined;
  readonly readOnly: boolean;
  /** Undefined is without a limit. In force before the guest runs. */
  readonly limit?: RateLimit | undefined;
};

/** Limits of devices by their ids. A device that is not named keeps its limit; undefined takes it away. */
export type DeviceLimits = {
  readonly disks?: Readonly<Record<string, RateLimit | undefined>>;
  /** Only for drivers with the feature `limits.net`. */
  readonly nics?: Readonly<Record<string, RateLimit | undefined>>;
};

/** Everything that a VMM is given. Absolute paths; nothing in here is looked up again. */
export type BootPlan = {
  readonly id: VmId;
  readonly name: VmName;
  /** Where the VMM writes what is kept: `vmm.log`. Exists. */
  readonly stateDir: string;
  /** Where the VMM makes its sockets. Exists, mode 0700; short enough for socket paths. */
  readonly runDir: string;
  readonly kernel: string;
  readonly initramfs: string;
  /** Words of the kernel command line that are ours or the user's; the driver adds its own. */
  readonly kernelArgs: readonly string[];
  readonly disks: readonly DiskPlan[];
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly nics: readonly NicPlan[];
  readonly init: Init;
  readonly nested: boolean;
  /** The size of the largest file that the VMM may write. Undefined: what the largest disk of any VM may have. */
  readonly fileMaxBytes?: number | undefined;
  /** The walls around the VMM. */
  readonly isolation: BootIsolation;
  /** Where the VMM may write what is saved of it; exists, and belongs to the VMM. Undefined: it is never saved. */
  readonly saveDir?: string | undefined;
};

/**
 * What a driver can do on this host. Callers branch on this, never on the driver's name. Whether a VM can be run is
 * `canRun`'s to say.
 */
export type DriverFeatures = {
  /** False with a reason and a fix: nothing else in here counts then. */
  readonly available:
    { readonly ok: true } | { readonly ok: false; readonly reason: string; readonly hint: string };
  /** Of the VMM, such as "7.2.22". */
  readonly version?: string | undefined;
  readonly accel: "kvm" | "tcg";
  /** Nobody has asked yet whether KVM works, so that the first VM may get another `accel`. */
  readonly accelAssumed?: boolean | undefined;
  /** What it boots: a distribution's compressed kernel, or the ELF file inside of it. */
  readonly kernelFormat: "bzimage" | "elf";
  /** Of those that can run a VM the one with the highest is taken. */
  readonly preference: number;
  readonly pause: boolean;
  /** Whether the guest reads the id of a disk as its serial, see `DiskPlan`. */
  readonly diskSerials: boolean;
  /** Whether a disk may be a qcow2 over others; otherwise it is one raw file. */
  readonly layeredDisks: boolean;
  /** How VMs can be saved with their memory; undefined where they cannot, with the reason in `snapshotsRefused`. */
  readonly snapshots?: SnapshotFeatures | undefined;
  readonly snapshotsRefused?: string | undefined;
  readonly networks: readonly Network[];
  /** Guests that run VMs themselves: how many CPUs such a guest may have, and why no more. Undefined: none. */
  readonly nested: { readonly cpusMax: number; readonly reason?: string } | undefined;
  /** What kinds of devices can be limited: at the boot, and on a VM that runs. */
  readonly limits: { readonly disk: boolean; readonly net: boolean };
  /** Whether a guest that runs can be made to give memory back, and get it again. */
  readonly balloon: boolean;
  /** What can be plugged into a VM that runs: nothing, with any driver so far. */
  readonly hotplug: { readonly disk: false };
  /** Sentences that `show` and `doctor` print: what this host does not guarantee with this driver. */
  readonly caveats: readonly string[];
  /** The same, for VMs with such a network. */
  readonly networkCaveats: Readonly<Partial<Record<Network, string>>>;
  /** From boot to the agent's answer, longer is a hang. Emulation needs more than hardware. */
  readonly agentDeadlineMs: number;
  /** How often a boot that hung may be tried again, because the driver knows such hangs. */
  readonly bootRetries: number;
  /** What the VMM takes besides the guest's memory, at most. */
  readonly vmmOverheadBytes: number;
};

/** What of a VM decides whether a driver can run it on this host. */
export type RunSpec = Pick<VmSpec, "cpus" | "network" | "nested" | "diskLimit" | "netLimit">;

/** Why a driver cannot run a VM on this host, as an error says it. */
export type Lacking = {
  /** `vmm.missing` when it can run none at all. */
  readonly code: "vmm.missing" | "feature.missing";
  /** A sentence that names the feature or the flag. */
  readonly message: string;
  readonly hint: string;
};

export type SnapshotFeatures = {
  /** What a disk of a VM that is restored has to be: an own layer over what was saved, or an own copy. */
  readonly diskFormat: "qcow2" | "raw";
  /**
   * What a saved state fits, besides the VM's own shape: the VMM's version, its CPU model, its machine. Two that
   * differ by one letter do not fit.
   */
  readonly vmmFingerprint: string;
  /** Sentences: what a VM that was restored does not have that one that was booted has. */
  readonly caveats: readonly string[];
};

/** `terminate`: SIGTERM to the VMM, which ends at once without asking the guest. `kill`: SIGKILL. */
export type StopMode = "terminate" | "kill";

/** An optional part of a driver, there when one of its features `limits` is. */
export interface RateLimiter {
  /**
   * Sets limits of devices of a VM that runs. A device that the VM does not have is ignored.
   * @throws HearthError `vm.gone`
   */
  setLimits(handle: VmHandle, limits: DeviceLimits, signal: AbortSignal): Promise<void>;
}

/** What a guest has of its memory, and what it was started with: it never gets more. */
export type GuestMemory = { readonly bytes: number; readonly maxBytes: number };

/** An optional part of a driver, there when its feature `balloon` is. */
export interface Ballooner {
  /** @throws HearthError `vm.gone` */
  readMemory(handle: VmHandle, signal: AbortSignal): Promise<GuestMemory>;
  /**
   * Asks the guest to make do with so much. Resolves when it does, or when it has stopped moving towards it: a guest
   * gives only what it can spare. The wish stands after that.
   * @throws HearthError `vm.gone`; `feature.missing` for less than it has, where the VMM could not free the memory of
   * this VM; nothing is asked of the guest then
   */
  setMemory(handle: VmHandle, bytes: number, signal: AbortSignal): Promise<GuestMemory>;
}

/**
 * What a VMM counts of its own work, from the moment on when this hearthd began to follow it: a hearthd that
 * finds the VM again begins with what nobody has read meanwhile. All disks are in one sum.
 */
export type VmmMetrics = {
  /** How often the guest's CPUs waited for a device of the VMM. */
  readonly vcpuExits: number;
  readonly blockReadBytes: number;
  readonly blockWriteBytes: number;
  readonly blockReadOps: number;
  readonly blockWriteOps: number;
  /** How often a disk had to wait for its limit. */
  readonly blockThrottledCount: number;
  readonly vsockToGuestBytes: number;
  readonly vsockFromGuestBytes: number;
  /** What the VMM could not write down, because nobody read it in time. */
  readonly missedLogCount: number;
  readonly missedMetricsCount: number;
  /** System calls that its filter refused. */
  readonly seccompFaultCount: number;
};

/** An optional part of a driver, there when its VMM counts what it does. */
export interface Meter {
  /** As it is now. @throws HearthError `vm.gone`, `vmm.unresponsive` */
  readMetrics(handle: VmHandle, signal: AbortSignal): Promise<VmmMetrics>;
}

/** What a driver saves of a VM, absolute paths: the guest's memory, as the file that is mapped, and all the rest. */
export type SnapshotFiles = {
  readonly memory: string;
  readonly state: string;
  /** It is gone before a power cut could matter: nothing waits for the disk. */
  readonly temporary?: boolean | undefined;
};

/** Hooks that run while a VM is saved. Each is called once, in this order. */
export type SaveHooks = {
  /**
   * Gives the VMM `VM_NAMES.memoryBaseCopy`, which the driver has made in the VM's state directory. Only drivers that save
   * changes into an earlier memory call it. Undefined where the VMM has hearthd's own uid.
   */
  readonly giveMemoryBase?: (() => Promise<void>) | undefined;
  /** Just before the vCPUs halt: the guest is told to hold its processes. */
  readonly quiesce: () => Promise<void>;
  /** While they are halted: the disks are as the memory has them. */
  readonly onPaused: () => Promise<void>;
};

/** An optional part of a driver, there when its feature `snapshots` is. */
export interface Snapshotter {
  /**
   * Saves a VM that runs, or is paused, into files that are not there yet, and lets it go on as it was: also when
   * this fails, and then nothing of the files is left. They can be restored once `settle` has resolved.
   * @throws HearthError `vm.gone`, `snapshot.failed`
   */
  save(handle: VmHandle, saved: SnapshotFiles, hooks: SaveHooks, signal: AbortSignal): Promise<void>;
  /**
   * Loads what was saved into a VMM whose guest never runs, as proof that it can be; the files are final after that.
   * `plan` is that of a VM to be restored: its disks are not written to.
   * @throws HearthError `snapshot.failed` with the VMM's words
   */
  finalize(plan: BootPlan, saved: SnapshotFiles, signal: AbortSignal): Promise<void>;
  /**
   * Like `boot`, but the guest goes on where it was saved. No VMM has the files open for writing; they have to stay
   * while a VM has them. On failure nothing of this VM is left on the host.
   * @throws HearthError `snapshot.failed` when the VMM refuses what was saved, and what `boot` throws.
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
   * @returns what it lacks; undefined when a boot is not refused for the sake of a feature
   */
  canRun(spec: RunSpec, signal: AbortSignal): Promise<Lacking | undefined>;
  /**
   * Resolves once the VMM runs the guest's kernel; the agent comes later. The VMM is in its own session
   * and outlives hearthd. On failure nothing of this VM is left on the host.
   * @throws HearthError `vmm.missing`, `vmm.failed` with the VMM's exit code and last words.
   */
  boot(plan: BootPlan, onProgress: OnProgress, signal: AbortSignal): Promise<VmHandle>;
  /** After hearthd restarted: true while this very VMM runs. A pid that was used again counts as gone. */
  recover(handle: VmHandle): Promise<boolean>;
  /**
   * Follows a VMM that runs, ours or recovered: its end, and whether it answers. Ends with `signal`, or
   * with the VMM. One watch a VM.
   */
  watch(handle: VmHandle, on: VmmWatcher, signal: AbortSignal): void;
  /** Stops the vCPUs; a VM that is paused stays so. Never asked for where the feature `pause` is false. */
  pause(handle: VmHandle, signal: AbortSignal): Promise<void>;
  /** Lets the vCPUs run again. A VM that runs already is not disturbed: a recovery resumes without knowing. */
  resume(handle: VmHandle, signal: AbortSignal): Promise<void>;
  /** Idempotent: stopping a VMM that is gone resolves. Resolves when the process is gone. */
  stop(handle: VmHandle, mode: StopMode, signal: AbortSignal): Promise<VmExit>;
}

/**
 * What a VMM says of its VM's vCPUs. The last three stand still as well: the host's disk is full, or cannot be read or
 * written, and the guest waits for it; or the VMM cannot go on.
 */
export type VmmStatus = "running" | "paused" | "disk-full" | "disk-failed" | "broken";

export type VmmWatcher = {
  exited(exit: VmExit): void;
  /** The VMM did not answer for this long; 0 says that it answers again. */
  silent(silentMs: number): void;
  /** What the VMM says of the vCPUs, each time that it is asked; it may lie, and it may be late. */
  status?(status: VmmStatus): void;
};
