import type { BootPlan, SnapshotFiles, VmDriver } from "#drivers/vm-driver.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import type { OpenFiles } from "#testing/open-files.ts";

/**
 * What the guest of a plan does once it runs: nothing, power itself off, count aloud, or give memory back when it is
 * asked, counting aloud as well.
 */
export type GuestAct = "wait" | "power-off" | "count" | "give";

/** Where a driver under test runs. */
export type ContractHost = {
  /** A driver as a hearthd that starts now makes it; each call is another hearthd on the same host. */
  makeDriver(): VmDriver;
  /** A VM of its own, with all that the plan names, and a directory to be saved into. */
  makePlan(act: GuestAct): Promise<BootPlan>;
  /** For a guest that cannot act by itself. */
  act?(handle: VmHandle, act: GuestAct): void;
  /** What a guest that counts has said so far in the VM with this state directory, from 1 on. */
  counted(vm: Pick<VmHandle, "stateDir">): readonly number[];
  /** In a new directory that the VMMs of all plans may read. Nothing is there yet. */
  snapshotFiles(name: string): SnapshotFiles;
  /** How the VMM's process has files open. Undefined: there is no process. */
  openFiles?(handle: VmHandle): OpenFiles;
  /** kill -9 to the VMM, from outside of the driver. */
  crash(handle: VmHandle): void;
  /** What is still on the host, in words. */
  leftovers(): string[];
};

/** The driver's features say that it has no such part, and it has none. */
export const NOT_OFFERED = "not offered";

/** One promise, on a host of its own. @throws AssertionError when it is broken */
export type Check = (host: ContractHost) => Promise<void | typeof NOT_OFFERED>;
