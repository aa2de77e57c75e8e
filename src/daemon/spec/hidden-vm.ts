import type { Host } from "#daemon/host.ts";
import type { NewVm } from "#daemon/store/store.ts";
import { parseVmName, vmIdFrom } from "#model/ids.ts";
import type { ImageDigest } from "#model/ids.ts";
import type { VmSpec } from "#model/vm-spec.ts";

/** A VM for work of hearthd's own. One that dies meanwhile leaves it to the next one, which takes it away. */
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
