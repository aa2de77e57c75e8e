/** Which VMs name a volume, and which of them may use it at the same time. */
import { HearthError } from "#base/error.ts";
import type { Host } from "#daemon/host.ts";
import type { VolumeName } from "#model/ids.ts";
import type { VmPhase } from "#model/vm-state.ts";
import type { VolumeMount } from "#model/volume.ts";
import type { VmRecord } from "#model/vm.ts";
import { volumeNotFound } from "#storage/volumes.ts";

/** The phases in which a VMM has the disks open, or is about to. */
const OPEN: ReadonlySet<VmPhase> = new Set(["starting", "running", "paused", "stopping"]);

/** The VMs whose spec names the volume, running or not. */
export function volumeUsers(host: Pick<Host, "store">, name: VolumeName): string[] {
  return host.store
    .listVms()
    .filter((vm) => vm.spec.volumes.some((volume) => volume.name === name))
    .map((vm) => vm.name);
}

/** Whether something that outlives the VM may have unwritten data in its guest. */
export function writesVolumes(vm: VmRecord): boolean {
  return vm.spec.volumes.some(({ readOnly }) => !readOnly);
}

/** @throws HearthError `volume.not_found` for the first that is not there */
export function assertVolumes(host: Pick<Host, "volumes">, mounts: readonly VolumeMount[]): void {
  const missing = mounts.find(({ name }) => !host.volumes.has(name));
  if (missing !== undefined) throw volumeNotFound(missing.name);
}

/**
 * ext4 belongs to one writer: others may read a volume together, or one VM has it alone. Asked and answered at once,
 * in the moment in which the VM is marked as starting.
 * @throws HearthError `volume.in_use` with the other VM's name
 */
export function assertVolumesFree(host: Pick<Host, "store">, vm: VmRecord): void {
  for (const other of host.store.listVms()) {
    if (other.id === vm.id || !OPEN.has(other.state.phase)) continue;
    for (const mine of vm.spec.volumes) {
      const theirs = other.spec.volumes.find((volume) => volume.name === mine.name);
      if (theirs === undefined || (theirs.readOnly && mine.readOnly)) continue;
      const how = theirs.readOnly ? "reads" : "writes";
      throw new HearthError("volume.in_use", `${other.name} ${how} the volume ${mine.name} now.`, {
        hint: `Stop it first: \`hearth stop ${other.name}\`. Only VMs that all have it as :ro may use it together.`,
      });
    }
  }
}

/** A VM that sleeps could not be sure of its volumes. */
export function idleWithVolumes(): HearthError {
  return new HearthError("input.invalid", "idle-timeout: a VM with volumes cannot be suspended.", {
    hint: "Others may change the volumes meanwhile. Leave one of both out.",
  });
}
