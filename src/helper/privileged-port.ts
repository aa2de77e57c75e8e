/**
 * What hearthd asks of root: a closed list of verbs. Each takes the id of a VM or of a snapshot, and numbers: what is
 * done where follows from the id. What a VMM or a tool is shown of the host it sees with no more rights than its own uid
 * has. Each verb parses what it gets, throws before it changes anything, and may be called twice.
 *
 * All answer asynchronously, because the other end may be another process. It does not trust hearthd.
 */
import type { CgroupLimits } from "#host/cgroup.ts";
import type { EndSignal } from "#host/process-end.ts";
import type { ProcessRef } from "#host/procfs.ts";
import type { ToolRun } from "#host/tool-sandbox.ts";
import type { FaultOptions } from "#jail/isolation-faults.ts";
import type { LaunchedVmm, LaunchIsolation, VmmLaunch } from "#jail/vmm-launch.ts";

/** Sentences for the isolation that this host or this user does not have; undefined where it is there. */
export type Limitations = { readonly uid: string | undefined; readonly cgroup: string | undefined };

/**
 * A VMM that is to be started. Its log, its working directory, its uid, its cgroup and its jail follow from the VM's id. The
 * port opens stdin, a file in the directories of VMs or snapshots, and stdout, a FIFO in the VM's own.
 */
export type PortLaunch = Omit<VmmLaunch, "vmId" | "logFile" | "dir"> & {
  readonly isolation: Pick<LaunchIsolation, "jail" | "pidNamespace" | "network"> & {
    readonly cgroup: boolean;
  };
  /** The priority of its CPU time: `background` is for work that may wait. */
  readonly priority: "foreground" | "background";
};

export interface PrivilegedPort {
  /** Tells what the port cannot do. The answer stays the same: hearthd asks once, when it starts. */
  limitations(): Promise<Limitations>;

  /** Leases a uid that no other VM of this host has, until `releaseUid`; undefined where `limitations` say why. */
  leaseUid(vm: string): Promise<number | undefined>;
  /** Finds the VM's uid, if it has one. */
  uidOf(vm: string): Promise<number | undefined>;
  /**
   * Gives the VM's uid back, to be called when its VMM has ended and its cgroup is removed. Ends what still has the
   * uid: it can only be a process that the VMM left behind where no cgroup holds it.
   * @throws HearthError `host.tool_failed` when such a process does not end, and the signal's reason
   */
  releaseUid(vm: string, signal: AbortSignal): Promise<void>;
  /** Lists the VMs of these directories that have a uid. */
  listLeases(): Promise<string[]>;

  /**
   * Runs a tool on disks, in a sandbox and with a uid of its own, and returns its stdout. It writes to files in the
   * directories of VMs, volumes and snapshots, which have one name and are hearthd's again afterwards; it reads what
   * everybody may read.
   * @throws HearthError `input.invalid` for a program that is none of the tools, `path.unmanaged`, and what
   * `ToolSandbox.run` throws
   */
  runTool(tool: ToolRun, signal: AbortSignal): Promise<string>;

  /** Gives the VM's disk and run directory to its uid; without a lease they are only checked. */
  giveFiles(vm: string): Promise<void>;
  /** Makes the VM's disk hearthd's again. A file that is gone, or was never the VM's, stays as it is. */
  takeFiles(vm: string): Promise<void>;
  /** Gives a volume that the VM may write to its uid; without a lease it is only checked. */
  giveVolume(vm: string, volume: string): Promise<void>;
  /** Makes the volume hearthd's again, if it is there and the VM's. */
  takeVolume(vm: string, volume: string): Promise<void>;
  /**
   * Takes the run directory from a VMM that has made its sockets: it can make nothing more beside them, and no link
   * that would lead hearthd elsewhere.
   */
  sealRunDir(vm: string): Promise<void>;
  /** Gives the copy of a guest memory file in the VM's directory to its uid; without a lease it is only checked. */
  giveMemoryCopy(vm: string): Promise<void>;
  /** Gives the memory that a save begins with, in the VM's directory, to its uid; without a lease it is only checked. */
  giveMemoryBase(vm: string): Promise<void>;
  /** Makes the snapshot's guest memory file hearthd's: VMMs may read it, and none may write to it. */
  sealMemory(snapshot: string): Promise<void>;

  /**
   * Makes the VM's cgroup.
   * @returns its directory; undefined where `limitations` say why
   * @throws HearthError `input.invalid`
   */
  makeCgroup(vm: string, limits: CgroupLimits): Promise<string | undefined>;
  /** Finds the directory of the VM's cgroup, if it has one. */
  cgroupOf(vm: string): Promise<string | undefined>;
  /** Removes the VM's cgroup, and ends what is still in it. */
  removeCgroup(vm: string, signal: AbortSignal): Promise<void>;
  /** Lists the VMs of these directories that have a cgroup. */
  listCgroups(): Promise<string[]>;

  /**
   * Starts the VM's VMM, which has its priority and is in its cgroup before it runs. How it ends is told by `exit` of
   * what is returned, also when it ends at once.
   * @throws HearthError `input.invalid` for a program that is no VMM of this host's configuration, and for a jail
   * without a uid where VMs have one; `path.unmanaged` for a stdin or stdout elsewhere; `vmm.missing`; `host.tool_missing`, `feature.missing` where this host has no such
   * isolation. Nothing is left then.
   */
  launchVmm(vm: string, launch: PortLaunch, signal: AbortSignal): Promise<LaunchedVmm>;

  /**
   * Ends a process of the VM, see `endProcess`: one that the port has launched for it, that is in its cgroup or has its uid;
   * or one of hearthd's own user.
   * @throws HearthError `input.invalid` for every other, and nothing happens to it
   */
  endVmm(
    vm: string,
    process: ProcessRef,
    graceMs: number,
    signal: AbortSignal,
  ): Promise<EndSignal | undefined>;

  /**
   * Compares the isolation of a VMM that the port has launched with what the kernel enforces on it, and leaves its memory
   * out of core dumps: see `readBackIsolation`. It lies in the rights of root and of the VM's uid.
   * @throws HearthError `input.invalid` for a process that is not the VM's VMM
   */
  findIsolationFaults(vm: string, vmm: ProcessRef, options: FaultOptions): Promise<string[]>;

  /** Removes the root directory of the VM's VMM: never through a link, never through a mount. */
  removeJail(vm: string): Promise<void>;
  /** Lists the VMs of these directories that have a jail. */
  listJails(): Promise<string[]>;
}
