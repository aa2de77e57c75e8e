import type { Host } from "#daemon/host.ts";
import type { NewVm } from "#daemon/store/store.ts";
import { parseVmName, vmIdFrom } from "#model/ids.ts";
import type { ImageDigest } from "#model/ids.ts";
import type { VmSpec } from "#model/vm-spec.ts";

/**
 * Describes an internal VM (template build, snapshot verification, pool). After a crash of hearthd, recovery removes
 * it.
 */
export function internalVm(
  host: Pick<Host, "random">,
  spec: VmSpec,
  imageDigest: ImageDigest,
  priority: NonNullable<VmSpec["internal"]>,
): NewVm {
  const id = vmIdFrom(host.random(12));
  return {
    id,
    name: parseVmName(`hearth-${id.slice("vm-".length)}`),
    // Ports belong to the user's VM, for which this one prepares.
    spec: { ...spec, internal: priority, publish: undefined, networks: undefined, autoRemove: true },
    imageDigest,
    state: { phase: "created" },
    ephemeral: true,
  };
}
