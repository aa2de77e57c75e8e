import { bootPlan } from "#daemon/vm/boot-plan.ts";
import { giveFiles, leaseUid, makeCgroup, releaseUid, removeCgroup } from "#daemon/vm/vm-isolation.ts";
import type { Flow } from "#daemon/flows/flow.ts";
import { endVmm } from "#daemon/flows/start-flow.ts";
import type { Host } from "#daemon/host.ts";
import { vmPaths, vmRunsDir } from "#daemon/store/paths.ts";
import type { SavedState, VmDriver } from "#drivers/vm-driver.ts";
import type { VmId } from "#model/ids.ts";
import type { VmRecord } from "#model/vm.ts";

export type SettleContext = {
  readonly host: Host;
  readonly id: VmId;
  /** Not there after a crash. */
  readonly settle?: Settle | undefined;
};

export type Settle = {
  /** Whose files and walls the VMM has that loads what was saved. It does not run, before or after. */
  readonly vm: VmRecord;
  readonly driver: VmDriver;
  readonly saved: SavedState;
  readonly signal: AbortSignal;
};

/** Has a VMM load what was saved, behind the walls of a VM of its own. What it leaves goes with that VM. */
export const SETTLE_SNAPSHOT: Flow<SettleContext> = {
  kind: "settle",
  afterCrash: "unwind",
  steps: [
    {
      name: "make the folders",
      run: async ({ host, id }) => {
        const { runDir, saveDir } = vmPaths(host.folders, id);
        await host.files.makeFolder(saveDir);
        await host.files.makeFolder(runDir);
      },
      undo: ({ host, id }) =>
        host.files.removeTree(vmRunsDir(host.folders), vmPaths(host.folders, id).runDir),
    },
    {
      name: "lease a uid",
      run: async ({ host, settle }) => settle && leaseUid(host, settle.vm),
      undo: async ({ host, id }) => releaseUid(host, id),
    },
    {
      name: "make the cgroup",
      run: async ({ host, settle }) => settle && makeCgroup(host, settle.vm, settle.driver, settle.signal),
      undo: ({ host, id }) => removeCgroup(host, id),
    },
    {
      name: "load",
      run: async ({ host, settle }) => {
        if (settle === undefined) return;
        const { vm, driver, saved, signal } = settle;
        const plan = await bootPlan(host, vm, await driver.features(signal), signal);
        giveFiles(host, vm);
        await driver.snapshotter?.settle(plan, saved, signal);
      },
      undo: ({ host, id }) => endVmm(host, id),
    },
  ],
};
