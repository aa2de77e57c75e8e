/** Computes compatibility keys, and says why memory cannot be restored before anything is loaded. */
import { createHash } from "node:crypto";
import { basename } from "node:path";
import { HearthError } from "#base/error.ts";
import type { Host } from "#daemon/host.ts";
import { placeholdersOf } from "#daemon/vm/boot-disks.ts";
import type { SnapshotFeatures } from "#drivers/vm-driver.ts";
import type { Shape, SnapshotRecord } from "#model/snapshot.ts";
import type { VmRecord } from "#model/vm.ts";

/** Returns the compatibility key of this VM with this driver, with the values that it is made of. */
export async function shapeOf(
  host: Host,
  { spec, imageDigest }: Pick<VmRecord, "spec" | "imageDigest">,
  driver: string,
  { vmmFingerprint }: SnapshotFeatures,
  signal: AbortSignal,
): Promise<Shape> {
  const boot = await host.images.bootSet(imageDigest, { kernel: spec.kernel }, signal);
  const vm = {
    image: imageDigest,
    kernel: boot.kernelDigest,
    // Its name is a hash of its content, which includes the agent.
    initramfs: basename(boot.initramfs),
    cpus: String(spec.cpus),
    memory: String(spec.memoryBytes),
    disk: String(spec.diskBytes),
    network: spec.network,
    init: spec.init,
    nested: String(spec.nested),
    "boot-args": spec.bootArgs.join(" "),
    volumes: JSON.stringify(await placeholdersOf(host, spec)),
    "disk-limit": JSON.stringify(spec.diskLimit ?? null),
    // That of a network namespace is no part of the VM's devices.
    "net-limit": JSON.stringify((spec.network === "nat" ? undefined : spec.netLimit) ?? null),
  };
  return withKey({ driver, vmm: vmmFingerprint, vm });
}

/** Adds the key. Equal keys mean equal values, with the fields in the same order. */
export function withKey({ driver, vmm, vm }: Omit<Shape, "key">): Shape {
  const key = createHash("sha256")
    .update(JSON.stringify([driver, vmm, vm]))
    .digest("hex");
  return { driver, vmm, vm, key };
}

/** @throws HearthError `snapshot.mismatch` with the first thing that differs */
export function assertCompatible(snapshot: SnapshotRecord, now: Shape): void {
  const { shape } = snapshot;
  if (shape === undefined || shape.key === now.key) return;
  const shown = snapshot.name ?? `the memory of ${snapshot.vmName}`;
  const [what, was, is] = difference(shape, now);
  throw new HearthError(
    "snapshot.mismatch",
    `Cannot restore ${shown}: it was saved with ${what} ${was}; here it is ${is}.`,
    {
      hint:
        snapshot.kind === "suspended"
          ? `Delete its memory with \`hearth kill ${snapshot.vmName}\`, and start it.`
          : `Memory can be restored only where all of this is equal. To boot from its disk: hearth create --snapshot ${shown} --cold`,
    },
  );
}

function difference(was: Shape, now: Shape): readonly [what: string, was: string, now: string] {
  if (was.driver !== now.driver) return ["the driver", was.driver, now.driver];
  if (was.vmm !== now.vmm) return ["the VMM", was.vmm, now.vmm];
  for (const [what, value] of Object.entries(now.vm))
    if (was.vm[what] !== value) return [what, was.vm[what] ?? "unknown", value];
  return ["the shape", was.key, now.key];
}
