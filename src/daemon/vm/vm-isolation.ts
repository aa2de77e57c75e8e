/** A VM's walls, as far as hearthd makes them: its uid and its cgroup. The VMM's own part is the driver's. */
import { constants, setPriority } from "node:os";
import type { Host } from "#daemon/host.ts";
import { vmPaths } from "#daemon/store/paths.ts";
import type { BootIsolation } from "#drivers/boot-isolation.ts";
import type { VmDriver } from "#drivers/vm-driver.ts";
import type { VmId } from "#model/ids.ts";
import type { Isolation } from "#model/isolation.ts";
import type { VmRecord } from "#model/vm.ts";

/** Threads besides the virtual CPUs: QEMU has up to 64 for its disks, and a handful of its own. */
const OWN_TASKS = 128;
/** For the kernel to take killed processes out of a cgroup. */
const REMOVE_DEADLINE_MS = 15_000;

/** What `show` says of a wall that the VM was made without. */
const LEFT_OUT: Readonly<Record<keyof Isolation, string>> = {
  jail: "Made with --no-jail: the VMM runs as hearthd's user, with all that this user may do.",
  pidNamespace: "Made with --no-pid-ns: the VMM is in the host's pid namespace.",
  cgroup: "Made with --no-cgroup: the VMM's CPU time, memory and tasks are not limited.",
  seccomp: "Made with --no-seccomp: the VMM may make any system call.",
};

/** The VM's uid, if its jail is to have one, and an empty place for the jail: VS-015. Idempotent. */
export async function leaseUid(host: Host, vm: VmRecord): Promise<void> {
  await host.helper.removeJail(vm.id);
  if (vm.spec.isolation.jail) await host.helper.leaseUid(vm.id);
}

/** What the VMM writes belongs to the VM's uid then. What it only reads may belong to several VMs at once. */
export function giveFiles(host: Host, vm: VmRecord): void {
  host.helper.giveFiles(vm.id);
  for (const { name, readOnly } of vm.spec.volumes) if (!readOnly) host.helper.giveVolume(vm.id, name);
}

/** Gives the VM's uid and files back, once its VMM has ended and its cgroup is removed. Idempotent. */
export async function releaseUid(host: Host, id: VmId): Promise<void> {
  for (const { name, readOnly } of host.store.findVm(id)?.spec.volumes ?? [])
    if (!readOnly) host.helper.takeVolume(id, name);
  host.helper.takeFiles(id);
  await host.helper.removeJail(id);
  await host.helper.releaseUid(id, AbortSignal.timeout(REMOVE_DEADLINE_MS));
}

/** Idempotent. */
export async function makeCgroup(
  host: Host,
  vm: VmRecord,
  driver: VmDriver,
  signal: AbortSignal,
): Promise<void> {
  const { spec } = vm;
  if (!spec.isolation.cgroup) return;
  const { vmmOverheadBytes } = await driver.features(signal);
  host.helper.makeCgroup(vm.id, {
    cpus: spec.cpus,
    memoryBytes: spec.memoryBytes + vmmOverheadBytes,
    tasks: spec.cpus + OWN_TASKS,
  });
}

/** Idempotent. */
export async function removeCgroup(host: Host, id: VmId): Promise<void> {
  await host.helper.removeCgroup(id, AbortSignal.timeout(REMOVE_DEADLINE_MS));
}

/**
 * Removes the isolation of a VMM that has ended: first its cgroup, with every process in it, and then its uid, which
 * the next VM may get. Idempotent.
 */
export async function liftWalls(host: Host, id: VmId): Promise<void> {
  await removeCgroup(host, id);
  await releaseUid(host, id);
}

/** What a boot gets of what was chosen, with a sentence for all that it does not. */
export function bootIsolation(host: Host, vm: VmRecord): BootIsolation {
  const { helper } = host;
  const { isolation } = vm.spec;
  const { jail, pidNamespace, seccomp } = isolation;
  const walls = Object.keys(LEFT_OUT) as (keyof Isolation)[];
  const gaps = walls.filter((wall) => !isolation[wall]).map((wall) => LEFT_OUT[wall]);
  if (jail && helper.gaps.uid !== undefined) gaps.push(helper.gaps.uid);
  if (isolation.cgroup && helper.gaps.cgroup !== undefined) gaps.push(helper.gaps.cgroup);
  return {
    jail,
    pidNamespace,
    seccomp,
    jailDir: vmPaths(host.folders, vm.id).jailDir,
    uid: jail ? helper.uidOf(vm.id) : undefined,
    cgroup: isolation.cgroup ? helper.cgroupOf(vm.id) : undefined,
    gaps,
    join: (vmm) => {
      if (vm.spec.hidden === "idle") setPriority(vmm.pid, constants.priority.PRIORITY_LOW);
      if (isolation.cgroup) helper.joinCgroup(vm.id, vmm);
    },
    seal: () => helper.sealRunFolder(vm.id),
  };
}
