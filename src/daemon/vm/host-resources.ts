/**
 * Lists what a VM has on the host while it runs. A start acquires in this order; whatever ends a VM (a stop, a removal,
 * a start that failed, a VMM that ended by itself, recovery) releases in reverse order. A new kind of resource is one
 * entry here.
 */
import type { Host } from "#daemon/host.ts";
import { vmPaths, vmRunsDir } from "#daemon/store/paths.ts";
import { checkPortsUnused } from "#daemon/vm/published-ports.ts";
import type { VmDriver } from "#drivers/vm-driver.ts";
import { findResolver } from "#host/resolver.ts";
import type { VmId } from "#model/ids.ts";
import { INTERNET } from "#model/network-policy.ts";
import { withoutComments } from "#model/policy-comment.ts";
import type { VmRecord } from "#model/vm.ts";
import { planNetwork } from "#network/vm-network.ts";

/** The VM that acquires, and its driver. */
export type Acquiring = { readonly vm: VmRecord; readonly driver: VmDriver; readonly signal: AbortSignal };

/** A kind of resource. */
export type HostResource = {
  readonly name: string;
  /** True if it is acquired once the VM's disk exists, and again for every VMM that a start tries. */
  readonly needsDisk?: true;
  /** Idempotent. */
  acquire(host: Host, acquiring: Acquiring): Promise<void>;
  /** Called when the VMM has ended. Idempotent, also for a VM that has none. */
  release(host: Host, id: VmId): Promise<void>;
  /** Lists the names of those on this host that have one: ids of VMs, unless something else than hearthd made them. */
  listOwned(host: Host): Promise<readonly string[]>;
};

/** Threads beside the vCPUs: QEMU has up to 64 for its disks, and a few more. */
const OWN_TASKS = 128;
/** The time for the kernel to end killed processes. */
const RELEASE_MS = 15_000;

/** The directory with the sockets of the VMM. */
const RUN_DIRECTORY: HostResource = {
  name: "run directory",
  acquire: ({ dirs, files }, { vm }) => files.makeDir(vmPaths(dirs, vm.id).runDir),
  release: ({ dirs, files }, id) => files.removeTree(vmRunsDir(dirs), vmPaths(dirs, id).runDir),
  listOwned: ({ dirs, files }) => files.listDirs(vmRunsDir(dirs)),
};

/** The user that the VMM runs as, if it is jailed. */
const UID: HostResource = {
  name: "uid",
  acquire: async ({ helper }, { vm }) => {
    if (vm.spec.isolation.jail) await helper.leaseUid(vm.id);
  },
  release: ({ helper }, id) => helper.releaseUid(id, AbortSignal.timeout(RELEASE_MS)),
  listOwned: ({ helper }) => helper.listLeases(),
};

/** The network namespace of a VM with a network of its own; its policy is in force before the VMM is started. */
const NETWORK: HostResource = {
  name: "network",
  acquire: async (host, { vm, signal }) => {
    const { nics, namespace } = planNetwork(vm.spec, vm.id);
    const [card] = nics;
    if (namespace.kind !== "join" || card === undefined) return;
    const { policy = INTERNET, publish, networks, netLimit: limit } = vm.spec;
    await checkPortsUnused(host, publish);
    const { mac } = card;
    const network = {
      mac,
      name: vm.name,
      policy: withoutComments(policy),
      resolver: findResolver(),
      publish,
      networks,
      limit,
    };
    await host.helper.makeNetwork(vm.id, network, signal);
  },
  release: ({ helper }, id) => helper.removeNetwork(id, AbortSignal.timeout(RELEASE_MS)),
  listOwned: ({ helper }) => helper.listNetworks(),
};

/** The root directory of the VMM. Its driver makes and fills it; acquiring removes an old one. */
const JAIL: HostResource = {
  name: "jail",
  acquire: ({ helper }, { vm }) => helper.removeJail(vm.id),
  release: ({ helper }, id) => helper.removeJail(id),
  listOwned: ({ helper }) => helper.listJails(),
};

/** Files that the VMM writes belong to the VM's uid. Files that it only reads may be in use by several VMs. */
const OWNED_FILES: HostResource = {
  name: "owned files",
  needsDisk: true,
  acquire: async ({ helper }, { vm }) => {
    await helper.giveFiles(vm.id);
    for (const { name, readOnly } of vm.spec.volumes) if (!readOnly) await helper.giveVolume(vm.id, name);
  },
  release: async ({ helper, store }, id) => {
    const volumes = store.findVm(id)?.spec.volumes ?? [];
    for (const { name, readOnly } of volumes) if (!readOnly) await helper.takeVolume(id, name);
    await helper.takeFiles(id);
  },
  listOwned: ({ helper }) => helper.listLeases(), // Only a VM with a uid owns files.
};

/**
 * The limits of CPU time, memory and tasks. Its release ends every process of the VM that is left, so it is the first.
 */
const CGROUP: HostResource = {
  name: "cgroup",
  acquire: async ({ helper }, { vm, driver, signal }) => {
    const { isolation, cpus, memoryBytes } = vm.spec;
    if (!isolation.cgroup) return;
    const { vmmOverheadBytes } = await driver.features(signal);
    const limits = { cpus, memoryBytes: memoryBytes + vmmOverheadBytes, tasks: cpus + OWN_TASKS };
    await helper.makeCgroup(vm.id, limits);
  },
  release: ({ helper }, id) => helper.removeCgroup(id, AbortSignal.timeout(RELEASE_MS)),
  listOwned: ({ helper }) => helper.listCgroups(),
};

/** The resources in the order of acquisition: each may need those before it. */
export const HOST_RESOURCES: readonly HostResource[] = [
  RUN_DIRECTORY,
  UID,
  NETWORK,
  JAIL,
  OWNED_FILES,
  CGROUP,
];

/**
 * Acquires all that a VM needs before it has its disk. If it fails half way, `releaseHostResources` releases the rest.
 */
export async function acquireHostResources(host: Host, acquiring: Acquiring): Promise<void> {
  for (const resource of HOST_RESOURCES) if (!resource.needsDisk) await resource.acquire(host, acquiring);
}

/** Acquires what needs the disk, for one VMM. */
export async function acquireWithDisk(host: Host, acquiring: Acquiring): Promise<void> {
  for (const resource of HOST_RESOURCES) if (resource.needsDisk) await resource.acquire(host, acquiring);
}

/**
 * Releases all that a VM has, the last first, and stops at the first that fails: what was acquired before it may still
 * be in use, as a uid by a process in a cgroup that is not empty. Idempotent.
 */
export async function releaseHostResources(host: Host, id: VmId): Promise<void> {
  for (const resource of HOST_RESOURCES.toReversed()) await resource.release(host, id);
}

/** Lists the names of all that have a resource on this host. */
export async function listOwners(host: Host): Promise<ReadonlySet<string>> {
  const owners = await Promise.all(HOST_RESOURCES.map((resource) => resource.listOwned(host)));
  return new Set(owners.flat());
}
