import { liftWalls } from "#daemon/vm/vm-isolation.ts";
import { endVmm } from "#daemon/flows/start-flow.ts";
import type { Flow } from "#daemon/flows/flow.ts";
import type { Host } from "#daemon/host.ts";
import { forgetMemory } from "#daemon/snapshot/delete-snapshot.ts";
import { vmPaths, vmRunsDir, vmsDir } from "#daemon/store/paths.ts";
import type { VmId } from "#model/ids.ts";

export type RemoveContext = { readonly host: Host; readonly id: VmId };

/** Takes away all that a VM has, its row last: until then a hearthd that comes back can go on. */
export const REMOVE_VM: Flow<RemoveContext> = {
  kind: "remove",
  afterCrash: "finish",
  steps: [
    { name: "end the VMM", run: ({ host, id }) => endVmm(host, id) },
    { name: "lift the walls", run: ({ host, id }) => liftWalls(host, id) },
    {
      name: "remove the run folder",
      run: ({ host, id }) => host.files.removeTree(vmRunsDir(host.folders), vmPaths(host.folders, id).runDir),
    },
    { name: "remove the jail", run: ({ host, id }) => host.helper.removeJail(id) },
    {
      name: "remove the folder",
      run: ({ host, id }) => host.files.removeTree(vmsDir(host.folders), vmPaths(host.folders, id).stateDir),
    },
    { name: "forget the saved memory", run: ({ host, id }) => forgetMemory(host, id) },
    { name: "give the name back", run: async ({ host, id }) => host.store.deleteVm(id) },
  ],
};
