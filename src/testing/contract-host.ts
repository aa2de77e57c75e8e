import type { BootPlan, SnapshotFiles, VmDriver } from "#drivers/vm-driver.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import type { OpenFiles } from "#testing/open-files.ts";

/**
 * The work of a plan's guest once it runs: nothing, power itself off, count on its console, or free memory on
 * request and count.
 */
export type GuestAct = "wait" | "power-off" | "count" | "give";

/** The host of a driver under test. */
export type ContractHost = {
  /** A driver as a hearthd that starts now makes it; each call is another hearthd on the same host. */
  makeDriver(): VmDriver;
  /** Makes a VM with everything that the plan names, and a directory for its snapshots. */
  makePlan(act: GuestAct): Promise<BootPlan>;
  /** Acts in place of a guest that cannot act by itself. */
  act?(handle: VmHandle, act: GuestAct): void;
  /**
   * Returns the last number on the console of a counting guest, by the VM's state directory. Numbers begin with 1.
   */
  counted(vm: Pick<VmHandle, "stateDir">): readonly number[];
  /** Returns a path in a new directory that the VMMs of all plans may read. The file does not exist yet. */
  snapshotFiles(name: string): SnapshotFiles;
  /** Returns how the VMM's process has files open; undefined if there is no process. */
  openFiles?(handle: VmHandle): OpenFiles;
  /** kill -9 to the VMM, from outside of the driver. */
  crash(handle: VmHandle): void;
  /** Describes what the VMs do now: what a promise that was not kept in time was waiting for. */
  describe?(): string;
  /** Returns everything that is left on the host, as sentences. */
  leftovers(): string[];
};

/** The driver's features say that it has no such part, and it has none. */
export const NOT_OFFERED = "not offered";

/**
 * Tests one promise on a separate host.
 * @throws AssertionError if it is broken
 */
export type Check = (host: ContractHost) => Promise<void | typeof NOT_OFFERED>;
