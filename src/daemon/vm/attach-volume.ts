/** Attaches volumes to VMs and detaches them, from the next start on: no driver plugs a disk into a running VM. */
import { HearthError } from "#base/error.ts";
import type { Host } from "#daemon/host.ts";
import { assertVolumes, idleWithVolumes } from "#daemon/vm/volume-users.ts";
import type { VolumeName } from "#model/ids.ts";
import { LIMITS } from "#model/limits.ts";
import { handleOf } from "#model/vm-state.ts";
import { checkMounts } from "#model/volume.ts";
import type { VolumeMount } from "#model/volume.ts";
import type { VmRecord } from "#model/vm.ts";

/**
 * Attaches a volume. @throws HearthError `feature.missing`, `volume.not_found`, `input.invalid` for a path or volume
 * that the VM has
 */
export function attachVolume(host: Host, vm: VmRecord, mount: VolumeMount): void {
  refuseWhileRunning(vm);
  const volumes = [...vm.spec.volumes, mount];
  checkMounts(volumes);
  if (volumes.length > LIMITS.volumesMax)
    throw new HearthError(
      "input.invalid",
      `volume: ${vm.name} has ${LIMITS.volumesMax} volumes, which is the limit.`,
    );
  if (vm.spec.idleTimeoutMs !== undefined) throw idleWithVolumes();
  assertVolumes(host, [mount]); // The next line follows in the same tick, so the volume cannot be removed in between.
  host.store.setSpec(vm.id, { ...vm.spec, volumes });
}

/** Detaches a volume. @throws HearthError `feature.missing`, `volume.not_found` when the VM does not have it */
export function detachVolume(host: Host, vm: VmRecord, name: VolumeName): void {
  refuseWhileRunning(vm);
  const volumes = vm.spec.volumes.filter((volume) => volume.name !== name);
  if (volumes.length === vm.spec.volumes.length) {
    throw new HearthError("volume.not_found", `${vm.name} has no volume ${name}.`, {
      hint: `\`hearth show ${vm.name}\` lists its volumes.`,
    });
  }
  host.store.setSpec(vm.id, { ...vm.spec, volumes });
}

/** Refuses a running VM: `DriverFeatures.hotplug.disk` is false for every driver, as its type says. */
function refuseWhileRunning(vm: VmRecord): void {
  const handle = handleOf(vm.state);
  if (handle === undefined) return;
  throw new HearthError(
    "feature.missing",
    `The driver ${handle.driver} cannot attach a disk to a running VM.`,
    {
      hint: `Stop it first: \`hearth stop ${vm.name}\`.`,
    },
  );
}
