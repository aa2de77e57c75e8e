import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import { join } from "node:path";
import type { Host } from "#daemon/host.ts";
import { snapshotPaths, vmPaths } from "#daemon/store/paths.ts";
import type { DeviceLimits, DiskPlan } from "#drivers/vm-driver.ts";
import type { GuestMount } from "#guest/guest-identity.ts";
import type { BootSet } from "#images/boot-sets.ts";
import type { VmId, VolumeName } from "#model/ids.ts";
import type { SnapshotRecord } from "#model/snapshot.ts";
import type { VmRecord } from "#model/vm.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import type { PlaceholderDisk, VmSpec } from "#model/vm-spec.ts";
import { planNetwork } from "#network/vm-network.ts";
import { findDisk } from "#storage/disk-layout.ts";

/** The disks of a VM, and what its agent mounts of them. */
export type VmDisks = {
  /** All VMs with one compatibility key have their disks in the same order. */
  readonly disks: readonly DiskPlan[];
  /** Arguments of the kernel command line that say which disk is which. */
  readonly kernelArgs: readonly string[];
  readonly mounts: readonly GuestMount[];
};

const BASE = "base";
const OWN = "own";
const MODULES = "modules";

/**
 * Lists the disks of a VM.
 * @param diskSerials true if the guest finds its disks by their ids; otherwise by their places, which an agent of any
 * age understands
 */
export function vmDisks(
  host: Pick<Host, "dirs" | "volumes">,
  vm: VmRecord,
  boot: Pick<BootSet, "base" | "modules">,
  { diskSerials = false }: Pick<VmHandle, "diskSerials">,
): VmDisks {
  const { placeholders = [], diskLimit: limit } = vm.spec;
  // A directory is mounted before those inside of it.
  const volumes = vm.spec.volumes.toSorted(byPath);
  const disks: DiskPlan[] = [
    { id: BASE, path: boot.base, format: "raw", readOnly: true },
    { id: OWN, ...ownDisk(host, vm), readOnly: false, limit },
    ...(boot.modules === undefined
      ? []
      : [{ id: MODULES, path: boot.modules, format: "raw", readOnly: true } as const]),
    ...volumes.map(({ name, readOnly }): DiskPlan => {
      return { id: volumeDisk(name), path: host.volumes.diskPath(name), format: "raw", readOnly, limit };
    }),
    ...placeholders.map(({ readOnly }, index): DiskPlan => {
      return { id: `placeholder-${index}`, path: placeholderPath(host, vm, index), format: "raw", readOnly };
    }),
  ];
  const device = (id: string): string =>
    diskSerials ? `serial:${id}` : guestDevice(disks.findIndex((disk) => disk.id === id));
  return {
    disks,
    kernelArgs: [
      `hearth.base=${device(BASE)}`,
      `hearth.disk=${device(OWN)}`,
      ...(boot.modules === undefined ? [] : [`hearth.modules=${device(MODULES)}`]),
    ],
    mounts: volumes.map(({ name, path, readOnly }) => ({ device: device(volumeDisk(name)), path, readOnly })),
  };
}

/** Returns the limits of a VM with this spec, by the ids of its devices. */
export function deviceLimits({ diskLimit, network, volumes }: VmSpec, id: VmId): Required<DeviceLimits> {
  const own = [OWN, ...volumes.map(({ name }) => volumeDisk(name))];
  const { nics } = planNetwork({ network }, id);
  return {
    disks: Object.fromEntries(own.map((disk) => [disk, diskLimit])),
    nics: Object.fromEntries(nics.map((nic) => [nic.id, nic.limit])),
  };
}

/** Returns the disk id of a volume. A serial has room for 20 characters, and a name for more. */
function volumeDisk(name: VolumeName): string {
  return `vol-${createHash("sha256").update(name).digest("hex").slice(0, 16)}`;
}

/**
 * Makes the placeholder disks, as sparse files: whatever their size, they take no space. Their directory is hearthd's
 * alone.
 */
export async function makePlaceholders(
  host: Pick<Host, "dirs">,
  vm: Pick<VmRecord, "id" | "spec">,
): Promise<void> {
  for (const [index, { sizeBytes }] of (vm.spec.placeholders ?? []).entries()) {
    await using file = await open(placeholderPath(host, vm, index), "wx");
    await file.truncate(sizeBytes);
    await file.chmod(0o666); // The VMM's uid is not known before it starts.
  }
}

function placeholderPath(host: Pick<Host, "dirs">, { id }: Pick<VmRecord, "id">, index: number): string {
  return join(vmPaths(host.dirs, id).stateDir, `placeholder-${index}.raw`);
}

/**
 * Returns the size and read-only flag of each volume, in device order: all that a template's guest memory depends on
 * before volumes are mounted.
 */
export async function placeholdersOf(
  host: Pick<Host, "volumes">,
  { volumes, placeholders }: Pick<VmSpec, "volumes" | "placeholders">,
): Promise<readonly PlaceholderDisk[]> {
  if (placeholders !== undefined) return placeholders;
  const found = volumes.toSorted(byPath).map(async ({ name, readOnly }) => {
    const { sizeBytes } = await host.volumes.get(name);
    return { sizeBytes, readOnly };
  });
  return Promise.all(found);
}

/** Makes a VM's disk from that of a snapshot. Idempotent. */
export function diskFrom(
  host: Pick<Host, "dirs" | "disks">,
  vmDir: string,
  { id, diskFormat }: SnapshotRecord,
  signal: AbortSignal,
): Promise<void> {
  return host.disks.fromSnapshot(snapshotPaths(host.dirs, id).dir, vmDir, diskFormat, signal);
}

/** Finds the VM's disk, in whichever format it is. */
function ownDisk(host: Pick<Host, "dirs">, { id }: VmRecord): Pick<DiskPlan, "path" | "format" | "backing"> {
  const { path, format, layers } = findDisk(vmPaths(host.dirs, id).stateDir);
  return { path, format, backing: layers };
}

/** Returns the device of a disk: 2 is /dev/vdc. A machine has no room for more disks than letters. */
function guestDevice(index: number): string {
  return `/dev/vd${String.fromCharCode("a".charCodeAt(0) + index)}`;
}

function byPath(one: { path: string }, other: { path: string }): number {
  return one.path < other.path ? -1 : 1;
}
