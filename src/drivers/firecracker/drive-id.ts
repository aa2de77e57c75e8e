import type { VmHandle } from "#model/vm-handle.ts";

const BY_PLACE = /^disk(\d+)$/;
/** As an older hearthd has named them: with whose they were. */
const OLDER = /^(own|shared)\d+$/;

/**
 * Names the drive of the disk at this place. What Firecracker saves has the names of its drives in it, and what is saved
 * of one VM is restored in others, whose disks have other ids: their places are all that they share.
 */
export function driveId(index: number): string {
  return `disk${index}`;
}

/** Whether `driveId` has made it, of this hearthd or of an older one. */
export function isDriveId(id: string): boolean {
  return BY_PLACE.test(id) || OLDER.test(id);
}

/** Returns the id of a drive's disk, or `older` for one of the VM's own in the Firecracker of an older hearthd. */
export function diskOfDrive(
  drive: string,
  { disks }: Pick<VmHandle, "disks">,
): { readonly id: string } | "older" | undefined {
  if (disks === undefined) return drive.startsWith("own") ? "older" : undefined;
  const id = disks[Number(BY_PLACE.exec(drive)?.[1])];
  return id === undefined ? undefined : { id };
}
