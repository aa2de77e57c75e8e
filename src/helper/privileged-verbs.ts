/** Implements the privileged port. It may run in hearthd's own process, and does not trust hearthd's arguments. */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, rmdirSync } from "node:fs";
import { constants, setPriority } from "node:os";
import { join } from "node:path";
import { HearthError } from "#base/error.ts";
import { removeAs } from "#helper/remove-as-user.ts";
import type { Ids } from "#helper/own-files.ts";
import { CGROUP_PARENT, helperPaths, listVmDirs } from "#helper/helper-roots.ts";
import type { HelperPaths, HelperRoots } from "#helper/helper-roots.ts";
import { checkLimits, findLimitations } from "#helper/limitations.ts";
import type { EnforcedPolicy, GuestNetwork } from "#helper/nft-program.ts";
import type { Limitations, NetworkListing, PortLaunch, PrivilegedPort } from "#helper/privileged-port.ts";
import { checkJailer, isRootsAlone } from "#helper/roots-alone.ts";
import { ShownFiles } from "#helper/shown-files.ts";
import { checkGrace, checkProcess, endProcessesOf, isProcessOf, isSame } from "#helper/vm-processes.ts";
import { isStale, UidLeases } from "#helper/uid-leases.ts";
import type { Lease, UidRange } from "#helper/uid-leases.ts";
import { VmFiles } from "#helper/vm-files.ts";
import type { GuestNetworks } from "#helper/guest-networks.ts";
import { networksOfRoot } from "#helper/vm-networks.ts";
import type { NetworkPrograms } from "#helper/vm-networks.ts";
import { listedProgram } from "#helper/vmm-programs.ts";
import type { VmmPrograms } from "#helper/vmm-programs.ts";
import { joinCgroup, makeCgroup, removeCgroup } from "#host/cgroup.ts";
import type { CgroupLimits } from "#host/cgroup.ts";
import { removeTree } from "#host/managed-path.ts";
import { endProcess } from "#host/process-end.ts";
import type { EndSignal } from "#host/process-end.ts";
import { isAlive } from "#host/procfs.ts";
import type { ProcessRef } from "#host/procfs.ts";
import { ToolSandbox } from "#host/tool-sandbox.ts";
import type { ToolRun, ToolUid } from "#host/tool-sandbox.ts";
import { networkInForce, readBackIsolation } from "#jail/isolation-faults.ts";
import type { FaultOptions, WantedIsolation } from "#jail/isolation-faults.ts";
import { jailFiles, launchVmm } from "#jail/launch-vmm.ts";
import { OpenStdio } from "#jail/open-stdio.ts";
import type { LaunchedVmm, LaunchIsolation, LaunchNetwork, VmmLaunch } from "#jail/vmm-launch.ts";
import { parseVmId, vmIdFrom } from "#model/ids.ts";
import type { VmId } from "#model/ids.ts";
import type { RateLimit } from "#model/rate-limit.ts";

export type VerbOptions = {
  readonly roots: HelperRoots;
  readonly uids: UidRange;
  /** The programs that may be VMMs; by default none. */
  readonly programs?: VmmPrograms | undefined;
  /** By default those on PATH. */
  readonly networkPrograms?: NetworkPrograms | undefined;
  /** Makes the networks of VMs where this process is not root; by default they have none. */
  readonly networks?: GuestNetworks | undefined;
  /** The tools that may work on disks: names on PATH; by default none. */
  readonly tools?: readonly string[] | undefined;
  /** hearthd's user, who owns the files that no VM has; by default the user of this process. */
  readonly owner?: Ids | undefined;
  /** Tells whether this process may change owners and cgroups; set by tests. */
  readonly isRoot?: boolean | undefined;
};

/** The time for the rest of a killed tool to end. */
const TOOL_END_MS = 10_000;
const PRIVATE = 0o700;
/** The umask of a VMM whose hearthd is not root: its sockets are for the VM's uid and for hearthd's group. */
const WITH_GROUP = 0o007;
const ROOT = 0;

type Launched = Pick<LaunchedVmm, "process" | "launcher"> & { readonly wanted: WantedIsolation };

/** The verbs, as the port's interface describes them. */
export class PrivilegedVerbs implements PrivilegedPort {
  readonly #limitations: Limitations;
  readonly #roots: HelperRoots;
  readonly #leases: UidLeases;
  readonly #programs: VmmPrograms;
  readonly #tools: readonly string[];
  readonly #sandbox = new ToolSandbox(
    () => this.#leaseToolUid(),
    (files, signal) => ShownFiles.open(files, this.#apart, signal),
  );
  /** Launched VMMs, until their uids are released. */
  readonly #launched = new Map<VmId, Launched>();
  readonly #files: VmFiles;
  readonly #networks: GuestNetworks;
  readonly #owner: Ids;
  readonly #isRoot: boolean;

  constructor(options: VerbOptions) {
    this.#roots = options.roots;
    this.#leases = new UidLeases(options.roots.leases, options.uids);
    this.#programs = options.programs ?? { programs: [], dirs: [] };
    this.#owner = options.owner ?? { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
    this.#tools = options.tools ?? [];
    this.#isRoot = options.isRoot ?? process.geteuid?.() === 0;
    this.#files = new VmFiles(options.roots, this.#leases, this.#owner, this.#isRoot);
    this.#networks = options.networks ?? networksOfRoot(options, (id) => this.#uidOf(id));
    this.#limitations = findLimitations(this.#isRoot, options);
  }

  async limitations(): Promise<Limitations> {
    return this.#limitations;
  }

  async leaseUid(vm: string): Promise<number | undefined> {
    const { id, stateDir } = this.#ownPaths(vm);
    return this.#isRoot ? await this.#leases.take(id, stateDir) : undefined;
  }

  async uidOf(vm: string): Promise<number | undefined> {
    return this.#uidOf(vm);
  }

  async releaseUid(vm: string, signal: AbortSignal): Promise<void> {
    const { id, stateDir } = this.#paths(vm);
    this.#launched.delete(id);
    const uid = this.#uidOf(vm);
    if (uid === undefined) return;
    await endProcessesOf(uid, signal);
    await this.#leases.release(id, stateDir);
  }

  async runTool(tool: ToolRun, signal: AbortSignal): Promise<string> {
    if (!this.#tools.includes(tool.program))
      throw new HearthError("input.invalid", `${JSON.stringify(tool.program)} is not a disk tool.`);
    for (const path of tool.writes) this.#files.check(path);
    return this.#sandbox.run(tool, signal);
  }

  async giveFiles(vm: string): Promise<void> {
    this.#files.give(this.#paths(vm).id, this.#uidOf(vm));
  }

  async giveVolume(vm: string, volume: string): Promise<void> {
    this.#files.giveVolume(volume, this.#uidOf(vm));
  }

  async takeVolume(vm: string, volume: string): Promise<void> {
    const uid = this.#uidOf(vm);
    if (uid !== undefined) await this.#files.takeVolume(volume, uid);
  }

  async sealRunDir(vm: string): Promise<void> {
    const uid = this.#uidOf(vm);
    if (uid !== undefined) this.#files.sealRunDir(this.#paths(vm).id, uid);
  }

  async takeFiles(vm: string): Promise<void> {
    const uid = this.#uidOf(vm);
    if (uid !== undefined) await this.#files.take(this.#paths(vm).id, uid);
  }

  async sealMemory(snapshot: string): Promise<void> {
    this.#files.sealMemory(snapshot);
  }

  async giveMemoryCopy(vm: string): Promise<void> {
    this.#files.giveFile(this.#paths(vm).memoryCopy, this.#uidOf(vm));
  }

  async giveMemoryBase(vm: string): Promise<void> {
    this.#files.giveFile(this.#paths(vm).memoryBase, this.#uidOf(vm));
  }

  async makeCgroup(vm: string, limits: CgroupLimits): Promise<string | undefined> {
    const { cgroup } = this.#ownPaths(vm);
    checkLimits(limits);
    if (this.#limitations.cgroup !== undefined) return undefined;
    makeCgroup(cgroup, limits);
    return cgroup;
  }

  async cgroupOf(vm: string): Promise<string | undefined> {
    const { cgroup } = this.#paths(vm);
    return this.#limitations.cgroup === undefined && existsSync(cgroup) ? cgroup : undefined;
  }

  async listLeases(): Promise<string[]> {
    const { vms } = this.#roots;
    const leases = this.#isRoot ? this.#leases.list() : [];
    return leases.filter(({ vm, stateDir }) => stateDir === join(vms, vm)).map(({ vm }) => vm);
  }

  async listCgroups(): Promise<string[]> {
    const { vms, cgroups } = this.#roots;
    const names = this.#limitations.cgroup === undefined ? listVmDirs(join(cgroups, CGROUP_PARENT)) : [];
    return names.filter((name) => existsSync(join(vms, name)));
  }

  async listJails(): Promise<string[]> {
    return listVmDirs(this.#roots.jails);
  }

  async makeNetwork(vm: string, network: GuestNetwork, signal: AbortSignal): Promise<void> {
    await this.#networks.make(this.#networked(vm), network, signal);
  }

  async setNetworkPolicy(vm: string, enforced: EnforcedPolicy, signal: AbortSignal): Promise<void> {
    await this.#networks.setPolicy(this.#networked(vm), enforced, signal);
  }

  async setNetworkLimit(vm: string, limit: RateLimit, signal: AbortSignal): Promise<void> {
    await this.#networks.setLimit(this.#networked(vm), limit, signal);
  }

  async readNetworkRules(vm: string, what: NetworkListing, signal: AbortSignal): Promise<string> {
    return this.#networks.listRules(this.#networked(vm), what, signal);
  }

  async removeNetwork(vm: string, signal: AbortSignal): Promise<void> {
    const { id } = this.#ownPaths(vm);
    if (this.#limitations.network === undefined) await this.#networks.remove(id, signal);
  }

  async listNetworks(): Promise<string[]> {
    const names = this.#limitations.network === undefined ? this.#networks.list() : [];
    return names.filter((name) => existsSync(join(this.#roots.vms, name)));
  }

  async launchVmm(vm: string, launch: PortLaunch, signal: AbortSignal): Promise<LaunchedVmm> {
    const { id, cgroup } = this.#ownPaths(vm);
    const { jail, pidNamespace, cgroup: isLimited } = launch.isolation;
    const network = this.#joined(id, launch);
    const vmm = this.#vmmOf(id, launch);
    using stdio = new OpenStdio(vmm, this.#files.openFor(id, this.#uidOf(id)));
    const inJail = { ...this.#jailOf(id, launch), network };
    if (jail && this.#apart !== undefined && vmm.jailer !== undefined)
      checkJailer(vmm.jailer, this.#roots.jails);
    // Without a jail the VMM sees the same files as hearthd, with hearthd's rights and the groups of its devices.
    const needed = jail ? jailFiles(vmm) : vmm.files.filter(({ access }) => access === "device");
    using shown = await ShownFiles.open(needed, this.#apart, signal);
    const limited = isLimited && this.#limitations.cgroup === undefined;
    const prepare = async ({ pid }: ProcessRef): Promise<void> => {
      if (launch.priority === "background") setPriority(pid, constants.priority.PRIORITY_LOW);
      if (limited) joinCgroup(cgroup, pid);
    };
    const { files } = shown;
    const { process, launcher, exit } = await launchVmm({ ...vmm, files }, stdio, inJail, prepare, signal);
    const wanted: WantedIsolation = {
      jail,
      uid: inJail.uid,
      pidNamespace,
      network: networkInForce(jail, network),
      seccomp: true,
      cgroup: limited ? cgroup : undefined,
    };
    this.#launched.set(id, { process, launcher, wanted });
    return { process, launcher, exit };
  }

  async endVmm(
    vm: string,
    process: ProcessRef,
    graceMs: number,
    signal: AbortSignal,
  ): Promise<EndSignal | undefined> {
    const { id, cgroup } = this.#ownPaths(vm);
    checkProcess(process);
    checkGrace(graceMs);
    const launched = this.#launched.get(id);
    const known = [launched?.process, launched?.launcher].some(
      (one) => one !== undefined && isSame(one, process),
    );
    const limited = this.#limitations.cgroup === undefined && existsSync(cgroup);
    const theirs = {
      id,
      uid: this.#uidOf(vm),
      ownerUid: this.#owner.uid,
      cgroup: limited ? cgroup : undefined,
    };
    if (!known && isAlive(process) && !isProcessOf(process, theirs))
      throw new HearthError(
        "input.invalid",
        `Cannot end process ${process.pid}: it does not belong to ${id}.`,
        {
          hint: `See: ps -fp ${process.pid}`,
        },
      );
    return endProcess(process, graceMs, signal);
  }

  async findIsolationFaults(vm: string, vmm: ProcessRef, { seccomp }: FaultOptions): Promise<string[]> {
    const { id } = this.#paths(vm);
    const launched = this.#launched.get(id);
    if (launched === undefined || (launched.process !== undefined && !isSame(launched.process, vmm)))
      throw new HearthError("input.invalid", `Process ${vmm.pid} is not the VMM of ${id}.`);
    if (launched.process === undefined) return []; // It ended at once.
    return readBackIsolation(launched.process, launched.wanted, { seccomp });
  }

  async removeCgroup(vm: string, signal: AbortSignal): Promise<void> {
    const { cgroup } = this.#ownPaths(vm);
    if (this.#limitations.cgroup === undefined) await removeCgroup(cgroup, signal);
  }

  async removeJail(vm: string): Promise<void> {
    const { jail } = this.#paths(vm);
    const { jails } = this.#roots;
    if (this.#apart === undefined || !existsSync(jails) || isRootsAlone(jails)) await removeTree(jails, jail);
    // hearthd could lead root elsewhere by a link, so this uses only hearthd's rights.
    else await removeAs(this.#apart, jail);
  }

  /**
   * Leases a uid for one run of a tool, under an id that no VM has. Returns undefined if `limitations` say why. The id
   * has a run directory meanwhile: after a crash, recovery removes it like that of a VM without a row.
   */
  async #leaseToolUid(): Promise<ToolUid | undefined> {
    if (!this.#isRoot) return undefined;
    const { id, runDir } = this.#paths(vmIdFrom(randomBytes(12)));
    mkdirSync(runDir, { recursive: true, mode: PRIVATE });
    const uid = await this.#leases.take(id, runDir).catch((error: unknown) => {
      rmdirSync(runDir);
      throw error;
    });
    const release = async (): Promise<void> => {
      await endProcessesOf(uid, AbortSignal.timeout(TOOL_END_MS));
      await this.#leases.release(id, runDir);
      rmdirSync(runDir);
    };
    return {
      uid,
      owner: this.#owner,
      from: this.#files.ofHearthd(undefined),
      [Symbol.asyncDispose]: release,
    };
  }

  /** Returns the id of a VM of these directories. @throws HearthError `feature.missing` if VMs have no networks */
  #networked(vm: string): VmId {
    const reason = this.#limitations.network;
    if (reason !== undefined) throw new HearthError("feature.missing", reason);
    return this.#ownPaths(vm).id;
  }

  #uidOf(vm: string): number | undefined {
    const { id, stateDir } = this.#paths(vm);
    // Without root there are no leases, and those of a hearthd that is root must not be read.
    return this.#isRoot ? this.#leases.find(id, stateDir) : undefined;
  }

  /** Returns the launch of programs from the list, with everything that follows from the VM's id. */
  #vmmOf(id: VmId, launch: PortLaunch): VmmLaunch {
    const { program, args, files, fileMaxBytes, stdin, stdout, jailer } = launch;
    const listed = (name: string): string => listedProgram(this.#programs, name);
    const { runDir, vmmLog } = this.#paths(id);
    return {
      program: listed(program),
      jailer: jailer === undefined ? undefined : listed(jailer),
      args,
      files,
      fileMaxBytes,
      stdin,
      stdout,
      vmId: id,
      dir: runDir,
      logFile: vmmLog,
    };
  }

  #jailOf(id: VmId, { isolation: { jail, pidNamespace } }: PortLaunch): Omit<LaunchIsolation, "network"> {
    const uid = jail ? this.#uidOf(id) : undefined;
    if (this.#isRoot && jail && uid === undefined)
      throw new HearthError("input.invalid", `Cannot start the VMM of ${id} in a jail: the VM has no uid.`);
    const user = this.#apart;
    const umask = user === undefined ? undefined : WITH_GROUP;
    return { jail, pidNamespace, uid, user, umask, jailDir: this.#paths(id).jail };
  }

  /** Returns the network namespace for the VMM, which is the VM's. hearthd names it as if root had made it. */
  #joined(id: VmId, { isolation: { network } }: PortLaunch): LaunchNetwork {
    if (network.kind !== "join") return network;
    if (network.path === join(this.#roots.networks, id)) return this.#networks.join(id);
    throw new HearthError("input.invalid", `${network.path} is not the network namespace of ${id}.`);
  }

  /** hearthd's user, if it has fewer rights than the port. */
  get #apart(): Ids | undefined {
    return this.#isRoot && this.#owner.uid !== ROOT ? this.#owner : undefined;
  }

  /**
   * Returns the paths of a VM of this hearthd. Cgroups and uids belong to the whole host, and the VMs of another
   * hearthd must not be changed.
   * @throws HearthError `input.invalid`
   */
  #ownPaths(vm: string): HelperPaths & { readonly id: VmId } {
    const paths = this.#paths(vm);
    const isOthers = (lease: Lease): boolean =>
      lease.vm === paths.id && lease.stateDir !== paths.stateDir && !isStale(lease);
    if (this.#apart !== undefined && this.#leases.list().some(isOthers))
      throw new HearthError("input.invalid", `Cannot change ${paths.id}: the VM belongs to another hearthd.`);
    return paths;
  }

  #paths(vm: string): HelperPaths & { readonly id: VmId } {
    const id = parseVmId(String(vm));
    return { id, ...helperPaths(this.#roots, id) };
  }
}
