/** Finds what no row of the store knows of. What may hold data is moved to `lost+found`, never removed. */
import { join } from "node:path";
import { liftWalls } from "#daemon/confinement.ts";
import { endVmm } from "#daemon/flows/start-vm.ts";
import type { Host } from "#daemon/host.ts";
import { moveToLostFound } from "#daemon/lost-found.ts";
import { vmPaths, vmRunsDir, vmsDir } from "#daemon/vm-paths.ts";
import { parseVmId } from "#model/ids.ts";
import type { VmId } from "#model/ids.ts";
import { handleOf } from "#model/vm-state.ts";

/** @param skip VMs whose VMM may still run, though their rows do not say so */
export async function sweepVms(host: Host, skip: ReadonlySet<VmId>): Promise<void> {
  const rows = new Map(host.store.listVms().map((vm) => [vm.id as string, vm]));
  const isInUse = (id: string): boolean => {
    const vm = rows.get(id);
    return vm !== undefined && (handleOf(vm.state) !== undefined || skip.has(vm.id));
  };
  for (const id of host.helper.listConfined()) {
    const { stateDir } = vmPaths(host.folders, id);
    if (!isInUse(id)) await tolerate(host, stateDir, () => endIsolation(host, id));
  }
  const runs = vmRunsDir(host.folders);
  for (const name of await host.files.listFolders(runs)) {
    if (isInUse(name)) continue;
    await tolerate(host, join(runs, name), async () => {
      await endVmm(host, parseVmId(name));
      await host.files.removeTree(runs, join(runs, name)); // Sockets alone, of no use to anybody.
    });
  }
  const vms = vmsDir(host.folders);
  for (const name of await host.files.listFolders(vms)) {
    if (rows.has(name)) continue;
    await tolerate(host, join(vms, name), async () => {
      await endVmm(host, parseVmId(name));
      await moveToLostFound(host, "vms", name);
    });
  }
}

async function endIsolation(host: Host, id: VmId): Promise<void> {
  await endVmm(host, id);
  await liftWalls(host, id);
}

/** Something that is not ours lies in our directory, or cannot be moved: logged, and left alone. */
async function tolerate(host: Host, path: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    host.log.event("clean.left_over", { path, error });
  }
}
