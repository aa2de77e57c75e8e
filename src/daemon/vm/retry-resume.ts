/** Says whether the resume of a suspended VM can be retried after a failure. */
import type { Host } from "#daemon/host.ts";
import { vmPaths } from "#daemon/store/paths.ts";
import type { VmId } from "#model/ids.ts";
import type { VmState } from "#model/vm-state.ts";
import { findDisk, hasDisk } from "#storage/disk-layout.ts";

/**
 * True if the disk is layered: what a guest writes after its resume goes into a new layer, which can be discarded. With
 * a disk in one file, the memory no longer matches the disk once the guest has run.
 */
export function hasLayers(host: Pick<Host, "dirs">, id: VmId): boolean {
  return findDisk(vmPaths(host.dirs, id).stateDir).format === "qcow2";
}

/** Returns the state of a VM whose start was undone. A fresh start may have removed the old disk already. */
export function stateBefore(
  host: Pick<Host, "dirs">,
  id: VmId,
  back: VmState,
  fresh: boolean | undefined,
): VmState {
  return fresh === true && !hasDisk(vmPaths(host.dirs, id).stateDir) ? { phase: "created" } : back;
}

/** Returns the state of a VM whose memory no longer matches its disk. */
export function failedResume(atMs: number): Extract<VmState, { phase: "failed" }> {
  const message =
    "Resuming failed, and the guest memory of the suspended VM is lost. The disk is as after a power failure.";
  return { phase: "failed", code: "snapshot.failed", message, atMs };
}
