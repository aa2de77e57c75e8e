import type { VmHandle } from "#model/vm-handle.ts";

const BY_PLACE = /^disk(\d+)$/;
/** The names that an older hearthd has given: `own` and `shared` with a number. */
const OLDER = /^(own|shared)\d+$/;

/**
 * Names the drive of the disk at this index. A VM state file has the names of its drives in it, and is restored in VMs
 * whose disks have other ids: only the index is the same.
 */
export function driveId(index: number): string {
  return `disk${index}`;
}

/** Tells whether the name is a drive's, given by this hearthd or an older one. */
export function isDriveId(id: string): boolean {
  return BY_PLACE.test(id) || OLDER.test(id);
}

/** Returns the id of a drive's disk, or `older` for a disk of the VM in the Firecracker of an older hearthd. */
export function diskOfDrive(
  drive: string,
  { disks }: Pick<VmHandle, "disks">,
): { readonly id: string } | "older" | undefined {
  if (disks === undefined) return drive.startsWith("own") ? "older" : undefined;
  const id = disks[Number(BY_PLACE.exec(drive)?.[1])];
  return id === undefined ? undefined : { id };
}
