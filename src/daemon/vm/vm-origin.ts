/** What a start goes on from, and which disk it begins with. */
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

/** What was asked of a start, beside what the VM is. */
export type StartOptions = {
  /** Nothing that is on its disk is to be kept. */
  readonly fresh?: boolean | undefined;
  /** What it goes on from. Its memory when it was suspended goes with the disk that it has. */
  readonly from?: SnapshotRecord | undefined;
};

export type Origin = {
  readonly snapshot: SnapshotRecord;
  /** False: without it the VM boots, when it does not work. */
  readonly required: boolean;
};

export type VmOrigin = {
  readonly memory: Origin | undefined;
  /**
   * `keep`: as the VM left it. `overlay`: the same, and what is written can be taken back. `empty`: a new one.
   * Otherwise as that snapshot has it.
   */
  readonly disk: "keep" | "overlay" | "empty" | SnapshotRecord;
};

/**
 * @throws HearthError `snapshot.mismatch`, `feature.missing` for a snapshot that this VM was made from, and
 * `disk.missing` for a VM that has run and has no disk any more
 */
export async function chooseOrigin(
  host: Host,
  vm: VmRecord,
  driver: VmDriver,
  options: StartOptions,
  signal: AbortSignal,
): Promise<VmOrigin> {
  const pristine = neverRan(vm.state) || options.fresh === true;
  const isThere = hasDisk(vmPaths(host.dirs, vm.id).stateDir);
  const given = options.from ?? (options.fresh === true ? undefined : savedOf(host, vm));
  const { snapshots, snapshotsRefused } = await driver.features(signal);
  if (given !== undefined) {
    // A driver that knows one file alone goes on with that.
    const own = snapshots?.diskFormat === "qcow2" ? "overlay" : "keep";
    const disk = given.kind === "suspended" ? own : given;
    if (given.kind === "suspended" && !isThere) throw diskMissing(host, vm);
    // What was asked for at its making is about what it begins as.
    const cold = vm.spec.cold === true && options.from === undefined && given.kind !== "suspended";
    if (given.shape === undefined || cold) return { memory: undefined, disk };
    if (snapshots === undefined) throw noSnapshots(driver.name, snapshotsRefused);
    assertCompatible(given, await shapeOf(host, vm, driver.name, snapshots, signal));
    return { memory: { snapshot: given, required: true }, disk };
  }
  const template = pristine ? await findTemplate(host, vm, driver, signal) : undefined;
  if (template !== undefined) return { memory: { snapshot: template, required: false }, disk: template };
  if (!isThere && !pristine) throw diskMissing(host, vm);
  return { memory: undefined, disk: options.fresh === true || !isThere ? "empty" : "keep" };
}

/** An empty disk in place of the one that is missing would look like a VM that has lost everything. */
function diskMissing(host: Host, { id, name }: VmRecord): HearthError {
  const { disk } = vmPaths(host.dirs, id);
  return new HearthError("disk.missing", `Cannot start ${name}: its disk ${disk} does not exist.`, {
    hint:
      "Mount the file system that it is on, or restore it from a backup. With `hearth start --fresh` the VM begins " +
      "with an empty disk.",
  });
}

/** What it was suspended to, or is to begin with. */
function savedOf(host: Host, { spec, state }: VmRecord): SnapshotRecord | undefined {
  if (state.phase === "suspended") return host.snapshots.get(state.snapshot);
  return spec.origin === undefined ? undefined : host.snapshots.known(spec.origin);
}

/** The shape of VMs that share templates, or undefined when this one neither uses nor makes one. */
export async function templateShape(
  host: Host,
  { spec, imageDigest }: Pick<VmRecord, "spec" | "imageDigest">,
  driver: VmDriver,
  signal: AbortSignal,
): Promise<{ readonly shape: Shape; readonly snapshots: SnapshotFeatures } | undefined> {
  if (!host.config.warm.enabled) return undefined;
  // The services of a template run already when its volumes are mounted, and have opened what lies below them.
  if (spec.init === "systemd" && (spec.volumes.length > 0 || (spec.blanks ?? []).length > 0))
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
