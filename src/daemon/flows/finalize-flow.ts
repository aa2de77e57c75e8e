import { bootPlan } from "#daemon/vm/boot-plan.ts";
import { acquireHostResources, acquireWithDisk, releaseHostResources } from "#daemon/vm/host-resources.ts";
import type { Flow } from "#daemon/flows/flow.ts";
import { endVmm } from "#daemon/flows/start-flow.ts";
import type { Host } from "#daemon/host.ts";
import { vmPaths } from "#daemon/store/paths.ts";
import type { SnapshotFiles, VmDriver } from "#drivers/vm-driver.ts";
import type { VmId } from "#model/ids.ts";
import type { VmRecord } from "#model/vm.ts";

/** The input of the undo: all that is known after a crash. */
export type FinalizeLeft = { readonly host: Host; readonly id: VmId };

export type FinalizeContext = FinalizeLeft & { readonly finalize: Finalize };

export type Finalize = {
  /** The internal VM whose files and isolation the loading VMM gets. It does not run, neither before nor after. */
  readonly vm: VmRecord;
  readonly driver: VmDriver;
  readonly saved: SnapshotFiles;
  readonly signal: AbortSignal;
};

/**
 * Loads a new snapshot once into a VMM whose guest never runs, isolated as an internal VM. Removing that VM removes all
 * that is left.
 */
export const FINALIZE_SNAPSHOT: Flow<FinalizeContext, FinalizeLeft> = {
  kind: "finalize",
  afterCrash: "unwind",
  steps: [
    {
      name: "acquire host resources",
      run: async ({ host, id, finalize }) => {
        await host.files.makeDir(vmPaths(host.dirs, id).saveDir);
        await acquireHostResources(host, finalize);
      },
      undo: ({ host, id }) => releaseHostResources(host, id),
    },
    {
      name: "load",
      run: async ({ host, finalize }) => {
        const { vm, driver, saved, signal } = finalize;
        const plan = await bootPlan(host, vm, await driver.features(signal), signal);
        await acquireWithDisk(host, finalize);
        await driver.snapshotter?.finalize(plan, saved, signal);
      },
      undo: ({ host, id }) => endVmm(host, id),
    },
  ],
};
