import type { Host } from "#daemon/host.ts";
import type { NewVm } from "#daemon/store/store.ts";
import { parseVmName, vmIdFrom } from "#model/ids.ts";
import type { ImageDigest } from "#model/ids.ts";
import type { VmSpec } from "#model/vm-spec.ts";

/**
 * Describes an internal VM (template build, snapshot verification, pool). After a crash of hearthd, recovery removes
 * it.
 */
export function hiddenVm(
  host: Pick<Host, "random">,
  spec: VmSpec,
  imageDigest: ImageDigest,
  hurry: NonNullable<VmSpec["hidden"]>,
): NewVm {
  const id = vmIdFrom(host.random(12));
  return {
    id,
    name: parseVmName(`hearth-${id.slice("vm-".length)}`),
    spec: { ...spec, hidden: hurry, autoRemove: true },
    imageDigest,
    state: { phase: "created" },
    bound: true,
  };
}
