/**
 * Layers of disks: frozen for a snapshot, copied from one, merged into one. See disk-layout.ts for the files.
 *
 *   1. `freezeDisk`        links a VM's layers into a snapshot and copies the top one; the VM is paused meanwhile
 *   2. `finishLayers`      proves the layers, merges them if there are too many, and adds an empty one
 *   3. `diskFromSnapshot`  links a snapshot's layers into a VM's directory, with a copy of the empty one on top
 *
 * Every function may be killed at any moment, and the power may fail: the directory then has the disk as it was before
 * or as it is to be, and `repairLayers` completes the rest. So each change of names is synced before the next one that
 * relies on it.
 */
import { constants, existsSync } from "node:fs";
import { chmod, copyFile, link, open, rename, rm, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { VM_NAMES } from "#base/file-names.ts";
import { HearthError } from "#base/error.ts";
import { MIB } from "#base/sizes.ts";
import { syncPath } from "#host/atomic-file.ts";
import { copySparse } from "#host/copy-sparse.ts";
import type { QemuImg } from "#host/qemu-img.ts";
import { allLayersIn, DISK_NAMES, EMPTY, findDisk, layerIndex } from "#storage/disk-layout.ts";
import { LAYERS_MAX, layersIn, nextLayer, stagingIn, staleLayersIn } from "#storage/disk-layout.ts";
import type { DiskFormat } from "#storage/disk-layout.ts";
import { proveDisk } from "#storage/proven-disk.ts";
import type { ProvenDisk } from "#storage/proven-disk.ts";

/** Frozen layers are read-only, also for the uids of tools and VMMs; their directory keeps everybody else out. */
export const FROZEN_MODE = 0o444;

/** The size up to which a copy takes a fraction of a second, also on a slow disk. */
const COPIED_AT_ONCE_BYTES = 16 * MIB;

/**
 * Freezes the disk of a paused VM, as layers in the directory of a snapshot. The VM waits while its own layer is
 * copied, as a reflink where the file system supports it.
 */
export async function freezeDisk(vmDir: string, snapshotDir: string, signal: AbortSignal): Promise<void> {
  const { path, format, layers } = findDisk(vmDir);
  if (!existsSync(path))
    throw new HearthError("snapshot.failed", "The VM has no disk yet.", {
      hint: "Start it once: hearth start",
    });
  for (const layer of layers) await link(layer, join(snapshotDir, basename(layer)));
  const top = nextLayer(snapshotDir, format);
  // Most VMs have written little: a program to copy it would take longer to start. Larger files are copied by a program
  // all the same, because that ends with the signal.
  const { size } = await stat(path);
  if (format === "qcow2" && size <= COPIED_AT_ONCE_BYTES)
    await copyFile(path, top, constants.COPYFILE_FICLONE);
  else await copySparse(path, top, signal);
  await chmod(top, FROZEN_MODE);
}

/**
 * Proves the layers of a snapshot, merges them where there are too many, and adds an empty one for future VMs. The VM
 * does not wait for this. With `durable` everything is synced when this returns.
 */
export async function finishLayers(
  snapshotDir: string,
  format: DiskFormat,
  tools: QemuImg,
  signal: AbortSignal,
  durable = true,
): Promise<void> {
  const disk = await proveFewLayers(snapshotDir, tools, signal);
  if (format === "qcow2") {
    const empty = join(snapshotDir, EMPTY);
    await makeLayer(empty, disk, tools, signal);
    await chmod(empty, 0o400);
  }
  if (!durable) return;
  for (const layer of layersIn(snapshotDir)) await syncPath(layer);
  await syncPath(snapshotDir);
}

/** Makes the file of an empty layer on top of a disk. Its content is synced, its name is not. */
export async function makeLayer(
  path: string,
  below: ProvenDisk,
  tools: QemuImg,
  signal: AbortSignal,
): Promise<void> {
  const top = below.layers.at(-1);
  if (top === undefined) throw new HearthError("disk.corrupt", `There is no disk below ${path}.`);
  await makeFile(path, 0);
  await tools.createLayer(path, top, below.sizeBytes, signal);
  await proveDisk([...below.layers.map((layer) => layer.path), path]);
}

/** Makes a new, empty file of this size that only hearthd can read, in place of one that a crash has left. */
async function makeFile(path: string, sizeBytes: number): Promise<void> {
  await rm(path, { force: true });
  await using file = await open(path, "wx", 0o600);
  await file.truncate(sizeBytes);
}

/** Returns the frozen layers of the directory, at most LAYERS_MAX, numbered from 0 as archives have them. */
export async function proveFewLayers(dir: string, tools: QemuImg, signal: AbortSignal): Promise<ProvenDisk> {
  const layers = layersIn(dir);
  const disk = await proveDisk(layers);
  if (layers.length <= LAYERS_MAX && layerIndex(layers[0] ?? "") === 0) return disk;
  await flatten(dir, disk, tools, signal);
  return proveDisk(layersIn(dir));
}

/** Merges all layers into one; at every moment there is a whole disk in the directory. */
async function flatten(dir: string, disk: ProvenDisk, tools: QemuImg, signal: AbortSignal): Promise<void> {
  const flat = await copyFlat(dir, disk, tools, signal);
  await chmod(flat, FROZEN_MODE);
  await syncPath(flat);
  // From here on the layers below are stale.
  await rename(flat, nextLayer(dir, "raw"));
  await syncPath(dir);
  await repairLayers(dir);
}

/** Copies all layers of a disk into one synced file of the directory. */
export async function copyFlat(
  dir: string,
  disk: ProvenDisk,
  tools: QemuImg,
  signal: AbortSignal,
): Promise<string> {
  const flat = join(dir, VM_NAMES.flatDisk);
  await makeFile(flat, disk.sizeBytes);
  await tools.flatten(disk, flat, signal);
  return flat;
}

/**
 * Completes what a crash has interrupted: deletes temporary files and layers that were merged, and renames the merged
 * layer to the lowest name, if no layer is on top of it. Idempotent; for a directory whose disk no VMM has open.
 */
export async function repairLayers(dir: string): Promise<void> {
  for (const path of stagingIn(dir)) await rm(path, { force: true });
  const { path: disk, format } = findDisk(dir);
  const isOneFile = format === "raw" && existsSync(disk);
  const stale = isOneFile ? allLayersIn(dir) : staleLayersIn(dir);
  // Hearth once made one file of a layered disk beside it: as long as the layers exist, they are the disk.
  if (format === "qcow2") stale.push(join(dir, VM_NAMES.rawDisk));
  for (const path of stale) await rm(path, { force: true });
  if (isOneFile) return;
  const [lowest, ...above] = layersIn(dir);
  if (lowest === undefined || above.length > 0 || format === "qcow2") return;
  if (!lowest.endsWith(".raw") || layerIndex(lowest) === 0) return;
  // A stale layer that a power cut restores must not seem to be on top of it.
  await syncPath(dir);
  await rename(lowest, join(dir, "layer-0.raw"));
  await syncPath(dir);
}

/**
 * Makes a VM's disk from a snapshot, in place of any disk in the directory. Idempotent, and durable when it returns. A
 * crash leaves no disk, one that is refused, or all of it: the lowest layer comes last, and without it there is no
 * disk.
 * @throws HearthError `snapshot.corrupt` when a file of the snapshot is missing; the directory is unchanged then
 */
export async function diskFromSnapshot(
  snapshotDir: string,
  vmDir: string,
  format: DiskFormat,
  signal: AbortSignal,
): Promise<void> {
  const layers = await wholeLayers(snapshotDir, format);
  if (format === "raw" && layers.length !== 1)
    throw new HearthError("snapshot.mismatch", "This driver does not support layered disks.");
  await removeDisk(vmDir);
  const fresh = join(vmDir, VM_NAMES.newDisk);
  if (format === "raw") await copySparse(layers[0] ?? "", fresh, signal);
  else {
    for (const layer of layers.toReversed()) await link(layer, join(vmDir, basename(layer)));
    // 200 kB: a program to copy it would take longer to start.
    await copyFile(join(snapshotDir, EMPTY), fresh, constants.COPYFILE_FICLONE);
  }
  await publishDisk(fresh, join(vmDir, `disk.${format}`), vmDir);
}

/** Renames a new file to the VM's disk. A file with that name is always a whole disk. */
export async function publishDisk(fresh: string, path: string, dir: string): Promise<void> {
  await chmod(fresh, 0o600);
  await syncPath(fresh);
  await rename(fresh, path);
  await syncPath(dir);
}

async function wholeLayers(dir: string, format: DiskFormat): Promise<string[]> {
  const layers = layersIn(dir);
  try {
    await proveDisk(format === "qcow2" ? [...layers, join(dir, EMPTY)] : layers);
    return layers;
  } catch (cause) {
    throw new HearthError("snapshot.corrupt", `The disk of the snapshot in ${dir} is incomplete.`, {
      hint: "Nothing was started. Remove the snapshot, and create another one.",
      cause,
    });
  }
}

/** Removes all files of a disk. Idempotent. The lowest layer is the first, so that the rest of a disk is refused. */
export async function removeDisk(vmDir: string): Promise<void> {
  for (const path of allLayersIn(vmDir)) await rm(path, { force: true });
  for (const name of DISK_NAMES) await rm(join(vmDir, name), { force: true });
  for (const path of stagingIn(vmDir)) await rm(path, { force: true });
}
