import type { Host } from "#daemon/host.ts";
import { snapshotPaths, vmPaths } from "#daemon/vm-paths.ts";
import type { DiskPlan } from "#drivers/vm-driver.ts";
import type { GuestMount } from "#guest/guest-identity.ts";
import type { BootSet } from "#images/boot-sets.ts";
import type { SnapshotRecord } from "#model/snapshot.ts";
import type { VmRecord } from "#model/vm.ts";
import { findDisk } from "#storage/disk-layers.ts";

/** The disks of a VM, in the order of their letters in the guest, and what its agent mounts of them. */
export type VmDisks = {
  readonly disks: readonly DiskPlan[];
  /** In the guest, such as /dev/vdc; undefined when all modules are in the initramfs. */
  readonly modulesDevice: string | undefined;
  readonly mounts: readonly GuestMount[];
};

export function vmDisks(
  host: Pick<Host, "folders" | "volumes">,
  vm: VmRecord,
  boot: Pick<BootSet, "base" | "modules">,
): VmDisks {
  const disks: DiskPlan[] = [
    { path: boot.base, format: "raw", readOnly: true },
    { ...ownDisk(host, vm), readOnly: false, limited: true },
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

/** The disk of a VM that begins as this snapshot was. Idempotent. */
export function diskFrom(
  host: Pick<Host, "folders" | "disks">,
  vmFolder: string,
  { id, diskFormat }: SnapshotRecord,
  signal: AbortSignal,
): Promise<void> {
  return host.disks.fromSnapshot(snapshotPaths(host.folders, id).dir, vmFolder, diskFormat, signal);
}

/** Of whichever format it is now. */
function ownDisk(
  host: Pick<Host, "folders">,
  { id }: VmRecord,
): Pick<DiskPlan, "path" | "format" | "backing"> {
  const { path, format, layers } = findDisk(vmPaths(host.folders, id).stateDir);
  return { path, format, backing: layers };
}

/** 2 is /dev/vdc. A machine has no room for so many that they would need two letters. */
function guestDevice(index: number): string {
  return `/dev/vd${String.fromCharCode("a".charCodeAt(0) + index)}`;
}

function byPath(one: { path: string }, other: { path: string }): number {
  return one.path < other.path ? -1 : 1;
}
