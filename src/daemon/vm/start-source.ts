/** Chooses the start source: the memory that a start restores, if any, and the disk that it begins with. */
import { HearthError } from "#base/error.ts";
import type { Host } from "#daemon/host.ts";
import { noSnapshots } from "#daemon/snapshot/quiesce-vm.ts";
import { assertCompatible, shapeOf } from "#daemon/snapshot/snapshot-shape.ts";
import { vmPaths } from "#daemon/store/paths.ts";
import type { SnapshotFeatures, VmDriver } from "#drivers/vm-driver.ts";
import type { Shape, SnapshotRecord } from "#model/snapshot.ts";
import type { VmRecord } from "#model/vm.ts";
import { neverRan } from "#model/vm-state.ts";
import { hasDisk } from "#storage/disk-layout.ts";

/** Options of a start, beside the VM's spec. */
export type StartOptions = {
  /** True to start with a new disk of the image. */
  readonly fresh?: boolean | undefined;
  /** The snapshot to start from. The memory of a suspended VM is restored with the disk that the VM has. */
  readonly from?: SnapshotRecord | undefined;
};

export type MemorySource = {
  readonly snapshot: SnapshotRecord;
  /** False for a template: if it cannot be restored, the VM boots. */
  readonly required: boolean;
};

export type StartSource = {
  readonly memory: MemorySource | undefined;
  /**
   * `keep`: as the VM left it. `overlay`: the same under a new layer, which can be discarded. `empty`: a new disk.
   * Otherwise the disk of that snapshot.
   */
  readonly disk: "keep" | "overlay" | "empty" | SnapshotRecord;
};

/**
 * Chooses what a start restores, and with which disk.
 * @throws HearthError `snapshot.mismatch` or `feature.missing` if the VM's own snapshot cannot be restored here, and
 * `disk.missing` for a VM that has run and whose disk does not exist
 */
export async function chooseStartSource(
  host: Host,
  vm: VmRecord,
  driver: VmDriver,
  options: StartOptions,
  signal: AbortSignal,
): Promise<StartSource> {
  const pristine = neverRan(vm.state) || options.fresh === true;
  const diskExists = hasDisk(vmPaths(host.dirs, vm.id).stateDir);
  const given = options.from ?? (options.fresh === true ? undefined : savedOf(host, vm));
  const { snapshots, snapshotsRefused } = await driver.features(signal);
  if (given !== undefined) {
    // A driver without layered disks reuses the raw disk in place.
    const ownDisk = snapshots?.diskFormat === "qcow2" ? "overlay" : "keep";
    const disk = given.kind === "suspended" ? ownDisk : given;
    if (given.kind === "suspended" && !diskExists) throw diskMissing(host, vm);
    // `--cold` at create time applies to the VM's first start only.
    const cold = vm.spec.cold === true && options.from === undefined && given.kind !== "suspended";
    if (given.shape === undefined || cold) return { memory: undefined, disk };
    if (snapshots === undefined) throw noSnapshots(driver.name, snapshotsRefused);
    assertCompatible(given, await shapeOf(host, vm, driver.name, snapshots, signal));
    return { memory: { snapshot: given, required: true }, disk };
  }
  const template = pristine ? await findTemplate(host, vm, driver, signal) : undefined;
  if (template !== undefined) return { memory: { snapshot: template, required: false }, disk: template };
  if (!diskExists && !pristine) throw diskMissing(host, vm);
  return { memory: undefined, disk: options.fresh === true || !diskExists ? "empty" : "keep" };
}

/** Reports a missing disk. An empty one in its place would look like a VM that has lost everything. */
function diskMissing(host: Host, { id, name }: VmRecord): HearthError {
  const { disk } = vmPaths(host.dirs, id);
  return new HearthError("disk.missing", `Cannot start ${name}: its disk ${disk} does not exist.`, {
    hint:
      "Mount its file system, or restore it from a backup. With `hearth start --fresh`, the VM starts " +
      "with a new disk of the image.",
  });
}

/** Returns the snapshot that the VM was suspended to, or that its first start begins with. */
function savedOf(host: Host, { spec, state }: VmRecord): SnapshotRecord | undefined {
  if (state.phase === "suspended") return host.snapshots.get(state.snapshot);
  return spec.sourceSnapshot === undefined ? undefined : host.snapshots.known(spec.sourceSnapshot);
}

/** Returns the compatibility key of VMs that share templates, or undefined if this VM neither uses nor makes one. */
export async function templateShape(
  host: Host,
  { spec, imageDigest }: Pick<VmRecord, "spec" | "imageDigest">,
  driver: VmDriver,
  signal: AbortSignal,
): Promise<{ readonly shape: Shape; readonly snapshots: SnapshotFeatures } | undefined> {
  if (!host.config.warm.enabled) return undefined;
  // In a template, services run before the volumes are mounted, and would have opened files below the mount points.
  if (spec.init === "systemd" && (spec.volumes.length > 0 || (spec.placeholders ?? []).length > 0))
    return undefined;
  const { snapshots } = await driver.features(signal);
  if (snapshots === undefined) return undefined;
  const shape = await shapeOf(host, { spec, imageDigest }, driver.name, snapshots, signal);
  return { shape, snapshots };
}

async function findTemplate(
  host: Host,
  vm: VmRecord,
  driver: VmDriver,
  signal: AbortSignal,
): Promise<SnapshotRecord | undefined> {
  if (vm.spec.cold === true) return undefined;
  const found = await templateShape(host, vm, driver, signal);
  return found === undefined ? undefined : host.snapshots.findByShape("warm", found.shape.key);
}
