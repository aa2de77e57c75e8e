/** Finds the VMs that name a volume, and says which of them may use it at the same time. */
import { HearthError } from "#base/error.ts";
import type { Host } from "#daemon/host.ts";
import type { VolumeName } from "#model/ids.ts";
import type { VmPhase } from "#model/vm-state.ts";
import type { VolumeMount } from "#model/volume.ts";
import type { VmRecord } from "#model/vm.ts";
import { volumeNotFound } from "#storage/volumes.ts";

/** The phases in which a VMM has the disks open, or is about to. */
const OPEN: ReadonlySet<VmPhase> = new Set(["starting", "running", "paused", "stopping"]);

/** Returns the names of the VMs whose spec names the volume, running or not. */
export function volumeUsers(host: Pick<Host, "store">, name: VolumeName): string[] {
  return host.store
    .listVms()
    .filter((vm) => vm.spec.volumes.some((volume) => volume.name === name))
    .map((vm) => vm.name);
}

/** Tells whether the guest may have unwritten data of a volume, which outlives the VM. */
export function writesVolumes(vm: VmRecord): boolean {
  return vm.spec.volumes.some(({ readOnly }) => !readOnly);
}

/** @throws HearthError `volume.not_found` for the first that does not exist */
export function assertVolumes(host: Pick<Host, "volumes">, mounts: readonly VolumeMount[]): void {
  const missing = mounts.find(({ name }) => !host.volumes.has(name));
  if (missing !== undefined) throw volumeNotFound(missing.name);
}

/**
 * Checks that no other VM uses the VM's volumes: ext4 allows one writer alone, or several readers. Called in the tick
 * in which the VM is marked as starting.
 * @throws HearthError `volume.in_use` with the other VM's name
 */
export function assertVolumesFree(host: Pick<Host, "store">, vm: VmRecord): void {
  for (const other of host.store.listVms()) {
    if (other.id === vm.id || !OPEN.has(other.state.phase)) continue;
    for (const mine of vm.spec.volumes) {
      const theirs = other.spec.volumes.find((volume) => volume.name === mine.name);
      if (theirs === undefined || (theirs.readOnly && mine.readOnly)) continue;
      const how = theirs.readOnly ? "reads" : "writes";
      throw new HearthError("volume.in_use", `${other.name} ${how} the volume ${mine.name}.`, {
        hint: `Stop it first: \`hearth stop ${other.name}\`. Several VMs can use a volume only if all mount it as :ro.`,
      });
    }
  }
}

/** Refuses an idle timeout for a VM with volumes: others could change these while it is suspended. */
export function idleWithVolumes(): HearthError {
  return new HearthError("input.invalid", "idle-timeout: a VM with volumes cannot be suspended.", {
    hint: "Volumes can change while the VM is suspended. Leave out one of them.",
  });
}
