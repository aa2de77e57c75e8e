/** A VM that was suspended goes on with the disk that it had, as often as it takes. */
import type { Host } from "#daemon/host.ts";
import { vmPaths } from "#daemon/store/paths.ts";
import type { VmId } from "#model/ids.ts";
import type { VmState } from "#model/vm-state.ts";
import { findDisk, hasDisk } from "#storage/disk-layout.ts";

/**
 * Whether what a guest writes after it woke can be taken back, because it goes into a layer of its own. With a disk in
 * one file it cannot: the saved memory is of no use any more once the guest has run.
 */
export function hasLayers(host: Pick<Host, "dirs">, id: VmId): boolean {
  return findDisk(vmPaths(host.dirs, id).stateDir).format === "qcow2";
}

/** Where a VM is when its start was undone: one that was to begin anew may have lost its old disk already. */
export function stateBefore(
  host: Pick<Host, "dirs">,
  id: VmId,
  back: VmState,
  fresh: boolean | undefined,
): VmState {
  return fresh === true && !hasDisk(vmPaths(host.dirs, id).stateDir) ? { phase: "created" } : back;
}

/** Of a VM whose memory does not fit its disk any more. */
export function failedResume(atMs: number): Extract<VmState, { phase: "failed" }> {
  const message =
    "It was woken and did not come back; what it had in memory is lost, its disk is as after a power cut.";
  return { phase: "failed", code: "snapshot.failed", message, atMs };
}
