import { releaseHostResources } from "#daemon/vm/host-resources.ts";
import { endVmm } from "#daemon/flows/start-flow.ts";
import type { Flow } from "#daemon/flows/flow.ts";
import type { Host } from "#daemon/host.ts";
import { deleteSuspendedMemory } from "#daemon/snapshot/delete-snapshot.ts";
import { vmPaths, vmsDir } from "#daemon/store/paths.ts";
import type { VmId } from "#model/ids.ts";

export type RemoveContext = { readonly host: Host; readonly id: VmId };

/** Removes all that a VM has, the row last: as long as it exists, a restarted hearthd can finish the removal. */
export const REMOVE_VM: Flow<RemoveContext> = {
  kind: "remove",
  afterCrash: "finish",
  steps: [
    { name: "end the VMM", run: ({ host, id }) => endVmm(host, id) },
    { name: "release host resources", run: ({ host, id }) => releaseHostResources(host, id) },
    {
      name: "delete the directory",
      run: ({ host, id }) => host.files.removeTree(vmsDir(host.dirs), vmPaths(host.dirs, id).stateDir),
    },
    { name: "delete the suspended memory", run: ({ host, id }) => deleteSuspendedMemory(host, id) },
    { name: "release the name", run: async ({ host, id }) => host.store.deleteVm(id) },
  ],
};
