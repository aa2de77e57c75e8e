/** The disk of one VM: made, suspended and woken, repaired, made one file, grown. No VMM has it open meanwhile. */
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

/** There while the top layer holds only what was written since the VM was woken. */
const WOKEN = "woken";
/** What a qcow2 may grow by when its disk does: a larger table. */
const GROWTH_MAX_BYTES = 16 * MIB;

/** Makes a VM's new, empty disk; what the directory had of a disk goes. Durable when it returns. */
export async function newDisk(vmDir: string, sizeBytes: number, signal: AbortSignal): Promise<void> {
  await removeDisk(vmDir);
  await createDisk(join(vmDir, VM_NAMES.rawDisk), sizeBytes, signal);
}

/** As `growDisk`, for the disk of a VM that does not run. */
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
 * Says what a VM's disk takes by itself, without the layers that it may share, and how large it is for the guest: that
 * is what its VMM says while it runs, or 0 where that cannot be.
 */
export async function layeredDiskUsage(vmDir: string): Promise<DiskUsage> {
  const { path, format } = findDisk(vmDir);
  // A first start that failed has left none.
  if (!existsSync(path)) return { allocatedBytes: 0, sizeBytes: 0 };
  const usage = await diskUsage(path);
  if (format === "raw") return usage;
  return { ...usage, sizeBytes: await claimedSizeBytes(path, LIMITS.diskMaxBytes) };
}

/** What the files in a directory take on the host's disk; a file with several names is counted in each. */
export async function dirBytes(dir: string): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(dir)) bytes += (await diskUsage(join(dir, name))).allocatedBytes;
  return bytes;
}

/**
 * Gives a VM that was suspended a new layer over the disk that it had then, so that what its guest writes can be taken
 * back: called again, the disk is again as it was. `commitResumeOverlay` ends that.
 *
 *   1. The VM's own layer is frozen; with the marker it is what an earlier wake has written, and goes.
 *   2. Too many layers are made into one.
 *   3. The marker is set.
 *   4. An empty layer takes the place of the own one.
 *
 * Each is on the disk before the next begins: with the marker and without the frozen layer, the next wake would take
 * the VM's data for what an earlier one has written.
 */
export async function overlayDisk(vmDir: string, tools: QemuImg, signal: AbortSignal): Promise<void> {
  const marker = join(vmDir, WOKEN);
  // The marker comes after the layers, so that with both nothing else is the disk.
  if (existsSync(marker) && layersIn(vmDir).length > 0)
    for (const name of DISK_NAMES) await rm(join(vmDir, name), { force: true });
  await repairLayers(vmDir);
  if (findDisk(vmDir).format === "qcow2") await proveOwnDisk(vmDir); // One that is refused stays as it is.
  await freezeTop(vmDir);
  const disk = await proveFewLayers(vmDir, tools, signal);
  await touch(marker);
  await syncPath(vmDir);
  await putLayerOnTop(vmDir, disk, tools, signal);
}

/** Makes a layer of the VM's own file, if there is one. */
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
 * Makes the disk of a VM that is to start whole again, and proves it. What a crash has left without its top gets an
 * empty one: what was written is all in the layers below.
 * @throws HearthError `disk.corrupt` for one that its VMM, or somebody else, has changed
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

/** Makes one file of all layers, for a VMM that knows nothing else. */
export async function flattenDisk(vmDir: string, tools: QemuImg, signal: AbortSignal): Promise<void> {
  await repairLayers(vmDir);
  if (findDisk(vmDir).format === "raw") return;
  await proveOwnDisk(vmDir);
  await freezeTop(vmDir); // So that the tool's uid may read it.
  const flat = await copyFlat(vmDir, await proveDisk(layersIn(vmDir)), tools, signal);
  await publishDisk(flat, join(vmDir, VM_NAMES.rawDisk), vmDir);
  await repairLayers(vmDir);
}

/** Makes the disk as it is now the one that the suspended VM goes on with. Idempotent, and durable when it returns. */
export async function commitResumeOverlay(vmDir: string): Promise<void> {
  const { path } = findDisk(vmDir);
  // The guest counts on what it has written, and may have flushed none of it.
  if (existsSync(path)) await syncPath(path);
  await rm(join(vmDir, WOKEN), { force: true });
  await syncPath(vmDir);
}
