import type { DiskPlan } from "#drivers/vm-driver.ts";

/** The drives that the VM's limits hold for, so that the next hearthd knows them again without the plan. */
const LIMITED = /^own\d+$/;
const ANY = /^(own|shared)\d+$/;

/** By its place in the plan, and whose it is. */
export function driveId({ limited }: Pick<DiskPlan, "limited">, index: number): string {
  return `${limited ? "own" : "shared"}${index}`;
}

/** For an id that `driveId` made. */
export function isLimitedDrive(id: string): boolean {
  return LIMITED.test(id);
}

/** Whether `driveId` has made it. */
export function isDriveId(id: string): boolean {
  return ANY.test(id);
}
