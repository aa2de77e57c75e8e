/**
 * Makes the rows of a store harmless that is older than the directories beside it, such as one that was restored from a
 * backup. What a flow of that time would undo may be a month of work now, so nothing is undone, removed or replaced. At
 * worst a VM is shown as stopped, with the disk that it has.
 */
import { existsSync } from "node:fs";
import type { Host } from "#daemon/host.ts";
import { snapshotPaths, vmPaths } from "#daemon/store/paths.ts";
import { neverRan } from "#model/vm-state.ts";
import type { VmState } from "#model/vm-state.ts";
import type { VmRecord } from "#model/vm.ts";
import { hasDisk } from "#storage/disk-layout.ts";

/** Accepts the rows, in place of the recovery of flows. Idempotent. */
export async function acceptOlderStore(host: Host): Promise<void> {
  const flows = host.journals.listOpen();
  const vms = host.store.listVms();
  host.log.event("store.older", { vms: vms.length, flows: flows.length });
  for (const flow of flows) host.journals.reopen(flow)[Symbol.dispose]();
  for (const vm of vms) if (!vm.unreadable) acceptVm(host, vm);
}

/** An internal VM may have become a user's since, and one that was to be removed may have been kept. */
function acceptVm(host: Host, vm: VmRecord): void {
  const { id, spec, state } = vm;
  const diskExists = hasDisk(vmPaths(host.dirs, id).stateDir);
  // A start from a snapshot would replace the disk that the VM has got since.
  const sourceSnapshot = diskExists ? undefined : spec.sourceSnapshot;
  host.store.transaction(
    () => {
      host.store.setSpec(id, { ...spec, sourceSnapshot, autoRemove: false, internal: undefined });
      host.store.keepVm(id);
      host.store.setState(id, acceptedState(host, state, diskExists));
    },
    { reserve: true },
  );
}

function acceptedState(host: Host, state: VmState, diskExists: boolean): VmState {
  const stopped = { phase: "stopped", exit: { reason: "unseen", atMs: host.now() } } as const;
  // The first start of a VM that never ran would replace its disk.
  if (state.phase === "starting" || (diskExists && neverRan(state))) return stopped;
  // The VM was resumed since, and its disk has changed: its memory no longer exists.
  if (state.phase === "suspended" && !existsSync(snapshotPaths(host.dirs, state.snapshot).dir))
    return stopped;
  return state;
}
