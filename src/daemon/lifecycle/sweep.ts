/** Finds what no row of the store names. What may have data is moved to `lost+found`, never removed. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { listOwners, releaseHostResources } from "#daemon/vm/host-resources.ts";
import { endVmm } from "#daemon/flows/start-flow.ts";
import type { Host } from "#daemon/host.ts";
import { moveToLostFound } from "#daemon/lifecycle/lost-found.ts";
import { snapshotsDir, vmRunsDir, vmsDir } from "#daemon/store/paths.ts";
import { parseVmId } from "#model/ids.ts";
import { handleOf } from "#model/vm-state.ts";

/**
 * The entries that existed on the host when hearthd started, by the names of VMs and snapshots. Nothing that is made
 * later is in it.
 */
export type FoundOnHost = {
  /** The VMs that have a resource of the host. */
  readonly owners: ReadonlySet<string>;
  readonly stateDirs: ReadonlySet<string>;
  readonly snapshotDirs: ReadonlySet<string>;
};

export async function findOnHost(host: Host): Promise<FoundOnHost> {
  const { dirs, files } = host;
  return {
    owners: await listOwners(host),
    stateDirs: new Set(await files.listDirs(vmsDir(dirs))),
    snapshotDirs: new Set(await files.listDirs(snapshotsDir(dirs))),
  };
}

/** Removes what is left of a VMM that has ended, and of a VM that no row names. The caller has the VM's lock. */
export async function sweepVm(host: Host, found: FoundOnHost, name: string): Promise<void> {
  const vm = host.store.findVm(name);
  if (vm !== undefined && handleOf(vm.state) !== undefined) return;
  const stateDir = join(vmsDir(host.dirs), name);
  if (found.owners.has(name))
    await tolerate(host, join(vmRunsDir(host.dirs), name), async () => {
      await endVmm(host, parseVmId(name));
      await releaseHostResources(host, parseVmId(name));
    });
  if (vm === undefined && found.stateDirs.has(name) && existsSync(stateDir))
    await tolerate(host, stateDir, async () => {
      await endVmm(host, parseVmId(name));
      await moveToLostFound(host, "vms", name);
    });
}

/** Moves the directories of snapshots that no row names to `lost+found`. */
export async function sweepSnapshotDirs(host: Host, found: FoundOnHost): Promise<void> {
  for (const name of found.snapshotDirs) {
    if (host.snapshots.find(name) !== undefined) continue;
    const path = join(snapshotsDir(host.dirs), name);
    if (existsSync(path)) await tolerate(host, path, () => moveToLostFound(host, "snapshots", name));
  }
}

/** Runs `work`, and logs its error: something else has put an entry into hearthd's directory, or it cannot be moved. */
async function tolerate(host: Host, path: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    host.log.event("clean.left_over", { path, error });
  }
}
