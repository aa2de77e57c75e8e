/**
 * Operations on the disk of one VM: create, put an overlay on it for a resume, repair, merge into one file, grow. No
 * VMM has the disk open meanwhile.
 */
import { existsSync } from "node:fs";
import { chmod, open, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { VM_NAMES } from "#base/file-names.ts";
import { MIB } from "#base/sizes.ts";
import { syncPath } from "#host/atomic-file.ts";
import type { QemuImg } from "#host/qemu-img.ts";
import { LIMITS } from "#model/limits.ts";
import { FROZEN_MODE, publishDisk, removeDisk } from "#storage/disk-layers.ts";
import { copyFlat, makeLayer, proveFewLayers, repairLayers } from "#storage/disk-layers.ts";
import { DISK_NAMES, findDisk, hasDisk, layersIn, nextLayer } from "#storage/disk-layout.ts";
import { createDisk, diskUsage, growDisk } from "#storage/disks.ts";
import type { DiskUsage } from "#storage/disks.ts";
import { proveDisk } from "#storage/proven-disk.ts";
import type { ProvenDisk } from "#storage/proven-disk.ts";
import { claimedSizeBytes } from "#storage/qcow2-header.ts";

/** The most that a qcow2 grows by when its disk does: a larger table. */
const GROWTH_MAX_BYTES = 16 * MIB;
const RESUMED_MARKERS = [VM_NAMES.resumed, VM_NAMES.olderResumed] as const;

/** Tells whether the VM's own layer has only what was written since its last resume. */
function isResumed(vmDir: string): boolean {
  return RESUMED_MARKERS.some((marker) => existsSync(join(vmDir, marker)));
}

/** Makes a VM's new, empty disk, in place of any disk in the directory. Durable when it returns. */
export async function newDisk(vmDir: string, sizeBytes: number, signal: AbortSignal): Promise<void> {
  await removeDisk(vmDir);
  await createDisk(join(vmDir, VM_NAMES.rawDisk), sizeBytes, signal);
}

/** Does the same as `growDisk`, for a disk with layers. The VM does not run. */
export async function growLayeredDisk(
  vmDir: string,
  sizeBytes: number,
  tools: QemuImg,
  signal: AbortSignal,
): Promise<void> {
  const { path, format } = findDisk(vmDir);
  if (!existsSync(path)) return; // The next start makes it.
  if (format === "raw") return growDisk(path, sizeBytes);
  const disk = await proveOwnDisk(vmDir);
  if (disk.sizeBytes === sizeBytes) return;
  const maxBytes = (await diskUsage(path)).sizeBytes + GROWTH_MAX_BYTES;
  await tools.growLayer(path, sizeBytes, maxBytes, signal);
  await proveOwnDisk(vmDir);
}

/** Proves the disk of a VM with its own layer. */
function proveOwnDisk(vmDir: string): Promise<ProvenDisk> {
  const { path, layers } = findDisk(vmDir);
  return proveDisk([...layers, path]);
}

/**
 * Returns what a VM's disk takes by itself, without layers that it may share, and the size that the guest sees. While
 * the VM runs, its VMM can write that size; it is 0 where the size is impossible.
 */
export async function layeredDiskUsage(vmDir: string): Promise<DiskUsage> {
  const { path, format } = findDisk(vmDir);
  // A first start that failed has left none.
  if (!existsSync(path)) return { allocatedBytes: 0, sizeBytes: 0 };
  const usage = await diskUsage(path);
  if (format === "raw") return usage;
  return { ...usage, sizeBytes: await claimedSizeBytes(path, LIMITS.diskMaxBytes) };
}

/** Returns what the files in a directory take on the host's disk; a hard-linked file is counted in each directory. */
export async function dirBytes(dir: string): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(dir)) bytes += (await diskUsage(join(dir, name))).allocatedBytes;
  return bytes;
}

/**
 * Puts an overlay on the disk of a suspended VM before it resumes, so that a failed resume can be retried: a second
 * call discards what was written since the first. `commitResumeOverlay` makes the overlay permanent.
 *
 *   1. The VM's own layer is frozen. With the marker it has been written by a failed resume, and is deleted.
 *   2. Too many layers are merged into one.
 *   3. The marker is created.
 *   4. An empty layer becomes the VM's own layer.
 *
 * Each step is synced before the next begins: with the marker but without the frozen layer, the next resume would take
 * the VM's data for those of a failed resume.
 */
export async function overlayDisk(vmDir: string, tools: QemuImg, signal: AbortSignal): Promise<void> {
  // The marker comes after the layers: with both, nothing else is the disk.
  if (isResumed(vmDir) && layersIn(vmDir).length > 0)
    for (const name of DISK_NAMES) await rm(join(vmDir, name), { force: true });
  await repairLayers(vmDir);
  if (findDisk(vmDir).format === "qcow2") await proveOwnDisk(vmDir); // A disk that is refused stays unchanged.
  await freezeTop(vmDir);
  const disk = await proveFewLayers(vmDir, tools, signal);
  await touch(join(vmDir, VM_NAMES.resumed));
  await syncPath(vmDir);
  await putLayerOnTop(vmDir, disk, tools, signal);
}

/** Freezes the VM's own file as a layer, if there is one. */
async function freezeTop(vmDir: string): Promise<void> {
  const { path, format } = findDisk(vmDir);
  if (!existsSync(path)) return;
  await chmod(path, FROZEN_MODE);
  await syncPath(path);
  await rename(path, nextLayer(vmDir, format));
  await syncPath(vmDir);
}

async function touch(path: string): Promise<void> {
  await using file = await open(path, "a", 0o600);
  await file.sync();
}

/**
 * Repairs and proves the disk of a VM that is about to start. A disk that a crash has left without its top gets an
 * empty one: all that was written is in the layers below.
 * @throws HearthError `disk.corrupt` for one that its VMM, or anything else on the host, has changed
 */
export async function repairDisk(vmDir: string, tools: QemuImg, signal: AbortSignal): Promise<void> {
  if (!hasDisk(vmDir)) return;
  await repairLayers(vmDir);
  const { path, format } = findDisk(vmDir);
  if (!existsSync(path)) await putLayerOnTop(vmDir, await proveDisk(layersIn(vmDir)), tools, signal);
  else if (format === "qcow2") await proveOwnDisk(vmDir);
}

async function putLayerOnTop(
  vmDir: string,
  below: ProvenDisk,
  tools: QemuImg,
  signal: AbortSignal,
): Promise<void> {
  const fresh = join(vmDir, VM_NAMES.newDisk);
  await makeLayer(fresh, below, tools, signal);
  await publishDisk(fresh, join(vmDir, VM_NAMES.layeredDisk), vmDir);
}

/** Merges all layers into one file, for a VMM that supports nothing else. */
export async function flattenDisk(vmDir: string, tools: QemuImg, signal: AbortSignal): Promise<void> {
  await repairLayers(vmDir);
  if (findDisk(vmDir).format === "raw") return;
  await proveOwnDisk(vmDir);
  await freezeTop(vmDir); // A frozen file can be read by the tool's uid.
  const flat = await copyFlat(vmDir, await proveDisk(layersIn(vmDir)), tools, signal);
  await publishDisk(flat, join(vmDir, VM_NAMES.rawDisk), vmDir);
  await repairLayers(vmDir);
}

/** Makes the overlay of a resume a permanent part of the VM's disk. Idempotent, and durable when it returns. */
export async function commitResumeOverlay(vmDir: string): Promise<void> {
  const { path } = findDisk(vmDir);
  // The guest relies on what it has written, and may have flushed none of it.
  if (existsSync(path)) await syncPath(path);
  for (const marker of RESUMED_MARKERS) await rm(join(vmDir, marker), { force: true });
  await syncPath(vmDir);
}
