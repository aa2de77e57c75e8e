import { open } from "node:fs/promises";
import { join } from "node:path";
import type { Host } from "#daemon/host.ts";
import { snapshotPaths, vmPaths } from "#daemon/store/paths.ts";
import type { DiskPlan } from "#drivers/vm-driver.ts";
import type { GuestMount } from "#guest/guest-identity.ts";
import type { BootSet } from "#images/boot-sets.ts";
import type { SnapshotRecord } from "#model/snapshot.ts";
import type { VmRecord } from "#model/vm.ts";
import type { Blank, VmSpec } from "#model/vm-spec.ts";
import { findDisk } from "#storage/disk-layout.ts";

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
  for (const [index, { readOnly }] of (vm.spec.blanks ?? []).entries())
    disks.push({ path: blankPath(host, vm, index), format: "raw", readOnly });
  return { disks, modulesDevice, mounts };
}

/** Whatever their size, they take nothing. The folder that they are in is hearthd's alone. */
export async function makeBlanks(
  host: Pick<Host, "folders">,
  vm: Pick<VmRecord, "id" | "spec">,
): Promise<void> {
  for (const [index, { sizeBytes }] of (vm.spec.blanks ?? []).entries()) {
    await using file = await open(blankPath(host, vm, index), "wx");
    await file.truncate(sizeBytes);
    await file.chmod(0o666); // The VMM's uid is known when it starts.
  }
}

function blankPath(host: Pick<Host, "folders">, { id }: Pick<VmRecord, "id">, index: number): string {
  return join(vmPaths(host.folders, id).stateDir, `blank-${index}.raw`);
}

/** What of a VM's volumes a saved memory has seen when nothing was mounted yet, in the order of their letters. */
export async function blanksOf(
  host: Pick<Host, "volumes">,
  { volumes, blanks }: Pick<VmSpec, "volumes" | "blanks">,
): Promise<readonly Blank[]> {
  if (blanks !== undefined) return blanks;
  const found = volumes.toSorted(byPath).map(async ({ name, readOnly }) => {
    const { sizeBytes } = await host.volumes.get(name);
    return { sizeBytes, readOnly };
  });
  return Promise.all(found);
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
