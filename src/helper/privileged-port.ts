/**
 * Describes what hearthd asks of root: a closed list of verbs. Each takes the id of a VM or of a snapshot, and numbers.
 * All paths that are changed follow from the id. The files of the host that a VMM or a tool sees are used with the
 * rights of its uid. Each verb parses its arguments, throws before it changes anything, and may be called twice. All
 * are asynchronous, because the other end may be another process. It does not trust hearthd.
 */
import type { EnforcedPolicy, GuestNetwork } from "#helper/nft-program.ts";
import type { CgroupLimits } from "#host/cgroup.ts";
import type { EndSignal } from "#host/process-end.ts";
import type { ProcessRef } from "#host/procfs.ts";
import type { ToolRun } from "#host/tool-sandbox.ts";
import type { FaultOptions } from "#jail/isolation-faults.ts";
import type { LaunchedVmm, LaunchIsolation, VmmLaunch } from "#jail/vmm-launch.ts";
import type { RateLimit } from "#model/rate-limit.ts";

/** Sentences for the isolation that this host or this user cannot have; undefined if there is no limitation. */
export type Limitations = {
  readonly uid: string | undefined;
  readonly cgroup: string | undefined;
  readonly network: string | undefined;
  /** The reason why policies have no domains, where VMs have networks. */
  readonly domains: string | undefined;
};

/**
 * A VMM to be started. Its log, working directory, uid, cgroup and jail follow from the VM's id. The port opens stdin,
 * a file in the directories of VMs or snapshots, and stdout, a FIFO in the VM's directories.
 */
export type PortLaunch = Omit<VmmLaunch, "vmId" | "logFile" | "dir"> & {
  readonly isolation: Pick<LaunchIsolation, "jail" | "pidNamespace" | "network"> & {
    readonly cgroup: boolean;
  };
  /** The priority of its CPU time: `background` is for work that may wait. */
  readonly priority: "foreground" | "background";
};

/** The choice of `readNetworkRules`. */
export type NetworkListing = "rules" | "counters";

export interface PrivilegedPort {
  /** Tells what the port cannot do. The answer stays the same: hearthd asks once, when it starts. */
  limitations(): Promise<Limitations>;

  /** Leases a uid that no other VM of this host has, until `releaseUid`. Returns undefined if `limitations` say why. */
  leaseUid(vm: string): Promise<number | undefined>;
  /** Finds the VM's uid, if it has one. */
  uidOf(vm: string): Promise<number | undefined>;
  /**
   * Releases the VM's uid. Call this when its VMM has ended and its cgroup is removed. Kills processes that still have
   * the uid: without a cgroup, a VMM may have left some.
   * @throws HearthError `host.tool_failed` if such a process does not end, and the signal's reason
   */
  releaseUid(vm: string, signal: AbortSignal): Promise<void>;
  /** Lists the VMs of these directories that have a uid. */
  listLeases(): Promise<string[]>;

  /**
   * Runs a tool on disks, in a sandbox and with a separate uid, and returns its stdout. It may write to files in the
   * directories of VMs, volumes and snapshots, which have one name and belong to hearthd again afterwards. It may read
   * files that everybody may read.
   * @throws HearthError `input.invalid` for a program that is not one of the tools, `path.unmanaged`, and errors of
   * `ToolSandbox.run`
   */
  runTool(tool: ToolRun, signal: AbortSignal): Promise<string>;

  /** Gives the VM's disk and run directory to its uid. Without a lease they are only checked. */
  giveFiles(vm: string): Promise<void>;
  /** Gives the VM's disk to hearthd. A file that is gone, or never belonged to the VM, stays as it is. */
  takeFiles(vm: string): Promise<void>;
  /** Gives a volume that the VM may write to its uid. Without a lease it is only checked. */
  giveVolume(vm: string, volume: string): Promise<void>;
  /** Gives the volume to hearthd, if it exists and belongs to the VM. */
  takeVolume(vm: string, volume: string): Promise<void>;
  /**
   * Takes the write permission of the run directory from a VMM that has made its sockets: it can then make no further
   * files, and no link that would lead hearthd elsewhere.
   */
  sealRunDir(vm: string): Promise<void>;
  /** Gives the copy of a guest memory file in the VM's directory to its uid. Without a lease it is only checked. */
  giveMemoryCopy(vm: string): Promise<void>;
  /** Gives the memory base of a save, in the VM's directory, to its uid. Without a lease it is only checked. */
  giveMemoryBase(vm: string): Promise<void>;
  /** Gives the snapshot's guest memory file to hearthd: VMMs may read it, and none may write to it. */
  sealMemory(snapshot: string): Promise<void>;

  /**
   * Makes the VM's cgroup.
   * @returns its directory; undefined if `limitations` say why
   * @throws HearthError `input.invalid`
   */
  makeCgroup(vm: string, limits: CgroupLimits): Promise<string | undefined>;
  /** Finds the directory of the VM's cgroup, if it has one. */
  cgroupOf(vm: string): Promise<string | undefined>;
  /** Removes the VM's cgroup, and kills all processes in it. */
  removeCgroup(vm: string, signal: AbortSignal): Promise<void>;
  /** Lists the VMs of these directories that have a cgroup. */
  listCgroups(): Promise<string[]>;

  /**
   * Makes the VM's network namespace, with the policy in force and a card that the VM's uid may open. Removes what the
   * VM had before.
   * @throws HearthError `feature.missing` if `limitations` say why; `input.invalid` for a VM without a uid, and for what
   * is no address; `host.tool_missing`, `host.tool_failed`, `host.addresses_used_up`
   */
  makeNetwork(vm: string, network: GuestNetwork, signal: AbortSignal): Promise<void>;
  /**
   * Replaces the network policy of a VM that runs, for its connections too. After an error, either the earlier one is in
   * force, or the new one without names.
   * @throws HearthError `feature.missing` if `limitations` say why, and for domains without a resolver; `input.invalid`
   * for a VM without a network; `host.tool_missing`, `host.tool_failed`
   */
  setNetworkPolicy(vm: string, enforced: EnforcedPolicy, signal: AbortSignal): Promise<void>;
  /**
   * Replaces the limit of each direction of a VM's network; one without rates removes it.
   * @throws HearthError as `setNetworkPolicy`
   */
  setNetworkLimit(vm: string, limit: RateLimit, signal: AbortSignal): Promise<void>;
  /**
   * Returns the nftables rules of the VM's network, as nft(8) prints them; or the counters of its policy, in the JSON of
   * libnftables-json(5).
   * @throws HearthError as `setNetworkPolicy`
   */
  readNetworkRules(vm: string, what: NetworkListing, signal: AbortSignal): Promise<string>;
  /** Removes the VM's network namespace, when its VMM has ended. */
  removeNetwork(vm: string, signal: AbortSignal): Promise<void>;
  /** Lists the VMs of these directories that have a network namespace. */
  listNetworks(): Promise<string[]>;

  /**
   * Starts the VM's VMM, with its priority and in its cgroup before it runs. `exit` of the result resolves with its
   * end, also when it ends at once. After an error nothing is left.
   * @throws HearthError `input.invalid` for a program that is not a VMM of this host's configuration, for a network
   * namespace that is not the VM's, and for a jail without a uid if VMs have uids; `path.unmanaged` for a stdin or stdout elsewhere; `vmm.missing`;
   * `host.tool_missing` or `feature.missing` if this host lacks the isolation
   */
  launchVmm(vm: string, launch: PortLaunch, signal: AbortSignal): Promise<LaunchedVmm>;

  /**
   * Ends a process of the VM, see `endProcess`: one that the port has launched for it, that is in its cgroup, or that
   * has its uid; or a process of hearthd's own user.
   * @throws HearthError `input.invalid`, and does nothing, for every other process
   */
  endVmm(
    vm: string,
    process: ProcessRef,
    graceMs: number,
    signal: AbortSignal,
  ): Promise<EndSignal | undefined>;

  /**
   * Compares the isolation of a VMM that the port has launched with what the kernel enforces, and excludes its memory
   * from core dumps: see `readBackIsolation`. It needs the rights of root and of the VM's uid.
   * @throws HearthError `input.invalid` for a process that is not the VM's VMM
   */
  findIsolationFaults(vm: string, vmm: ProcessRef, options: FaultOptions): Promise<string[]>;

  /** Removes the root directory of the VM's VMM, never through a link and never through a mount. */
  removeJail(vm: string): Promise<void>;
  /** Lists the VMs of these directories that have a jail. */
  listJails(): Promise<string[]>;
}
