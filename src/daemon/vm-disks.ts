import type { Host } from "#daemon/host.ts";
import { vmPaths } from "#daemon/vm-paths.ts";
import type { DiskPlan } from "#drivers/vm-driver.ts";
import type { GuestMount } from "#guest/guest-identity.ts";
import type { BootSet } from "#images/boot-sets.ts";
import type { VmRecord } from "#model/vm.ts";

/** The disks of a VM, in the order of their letters in the guest, and what its agent mounts of them. */
export type VmDisks = {
  readonly disks: readonly DiskPlan[];
  /** In the guest, such as /dev/vdc; undefined when all modules are in the initramfs. */
  readonly modulesDevice: string | undefined;
  readonly mounts: readonly GuestMount[];
};

/** Pure. */
export function vmDisks(
  host: Pick<Host, "folders" | "volumes">,
  vm: VmRecord,
  boot: Pick<BootSet, "base" | "modules">,
): VmDisks {
  const disks: DiskPlan[] = [
    { path: boot.base, format: "raw", readOnly: true },
    { path: vmPaths(host.folders, vm.id).disk, format: "raw", readOnly: false, limited: true },
  ];
  const modulesDevice = boot.modules === undefined ? undefined : guestDevice(disks.length);
  if (boot.modules !== undefined) disks.push({ path: boot.modules, format: "raw", readOnly: true });
  const mounts: GuestMount[] = [];
  // A folder before those that are in it.
  for (const { name, path, readOnly } of vm.spec.volumes.toSorted(byPath)) {
    mounts.push({ device: guestDevice(disks.length), path, readOnly });
    disks.push({ path: host.volumes.diskPath(name), format: "raw", readOnly, limited: true });
  }
  return { disks, modulesDevice, mounts };
}

/** 2 is /dev/vdc. A machine has no room for so many that they would need two letters. */
function guestDevice(index: number): string {
  return `/dev/vd${String.fromCharCode("a".charCodeAt(0) + index)}`;
}

function byPath(one: { path: string }, other: { path: string }): number {
  return one.path < other.path ? -1 : 1;
}
