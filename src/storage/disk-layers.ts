/**
 * A VM's writable disk in its folder: one file, or an own layer over frozen ones.
 *
 *   disk.raw                                    a disk of its own
 *   layer-0.raw ◀ layer-1.qcow2 ◀ disk.qcow2    what a snapshot has frozen, and what was written since
 *
 * Frozen layers are the same files in the folders of all VMs and snapshots that have them (hard links), so none of
 * them loses anything when another one is removed. A layer names the one below by its name alone.
 */
import { constants, existsSync, readdirSync } from "node:fs";
import { chmod, copyFile, link, open, readdir, rename, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { HearthError } from "#base/error.ts";
import { runOrThrow } from "#host/run.ts";
import { createDisk, diskUsage, growDisk } from "#storage/disks.ts";
import type { DiskUsage } from "#storage/disks.ts";

export type DiskFormat = "raw" | "qcow2";

/** Absolute paths. */
export type LayeredDisk = {
  readonly path: string;
  readonly format: DiskFormat;
  /** The lowest first. */
  readonly layers: readonly string[];
};

const LAYER = /^layer-(\d{1,2})\.(raw|qcow2)$/;
/** An empty layer over all that a snapshot has; copied for each VM. */
const EMPTY = "empty.qcow2";
/** There while the top layer holds only what was written since the VM was woken. */
const WOKEN = "woken";
/** QEMU looks through all of them for what was not written; more are made into one. */
export const LAYERS_MAX = 4;
/** Of programs that copy: as long as a disk may take. */
const COPY_TIMEOUT_MS = 3_600_000;
const TOOL_TIMEOUT_MS = 60_000;

/** The disk in a VM's folder, or where a new one would be. Reads the folder. */
export function findDisk(folder: string): LayeredDisk {
  const layered = join(folder, "disk.qcow2");
  if (!existsSync(layered)) return { path: join(folder, "disk.raw"), format: "raw", layers: [] };
  return { path: layered, format: "qcow2", layers: layersIn(folder) };
}

function layersIn(folder: string): string[] {
  const found = readdirSync(folder).filter((name) => LAYER.test(name));
  return found.toSorted((a, b) => indexOf(a) - indexOf(b)).map((name) => join(folder, name));
}

function indexOf(name: string): number {
  return Number(LAYER.exec(name)?.[1]);
}

/**
 * Freezes the disk in the folder of a VM that stands still, as layers in the folder of a snapshot. Copies what the
 * VM has written since its last snapshot was made, by reference where the file system can.
 */
export async function freezeDisk(
  vmFolder: string,
  snapshotFolder: string,
  signal: AbortSignal,
): Promise<void> {
  const { path, format, layers } = findDisk(vmFolder);
  for (const [index, layer] of layers.entries())
    await link(layer, join(snapshotFolder, layerName(index, layer)));
  const top = join(snapshotFolder, `layer-${layers.length}.${format}`);
  await copySparse(path, top, signal);
  await chmod(top, 0o444);
}

/** For VMs to come: fewer layers where there are too many, and an empty one for them. Not while the VM waits. */
export async function finishLayers(
  snapshotFolder: string,
  format: DiskFormat,
  signal: AbortSignal,
): Promise<void> {
  if (layersIn(snapshotFolder).length > LAYERS_MAX) await flatten(snapshotFolder, signal);
  if (format === "raw") return;
  await createLayer(snapshotFolder, EMPTY, signal);
  await chmod(join(snapshotFolder, EMPTY), 0o400);
}

/** An empty layer over all others of the folder. */
async function createLayer(folder: string, name: string, signal: AbortSignal): Promise<void> {
  const top = layersIn(folder).at(-1);
  if (top === undefined) throw new HearthError("snapshot.corrupt", `There is no disk in ${folder}.`);
  const below = basename(top);
  await runOrThrow(
    "qemu-img",
    ["create", "-q", "-f", "qcow2", "-b", below, "-F", below.endsWith(".raw") ? "raw" : "qcow2", name],
    { cwd: folder, timeoutMs: TOOL_TIMEOUT_MS, signal },
  );
}

async function flatten(folder: string, signal: AbortSignal): Promise<void> {
  const layers = layersIn(folder);
  const top = layers.at(-1) ?? "";
  const flat = join(folder, "flat.raw");
  await runOrThrow("qemu-img", ["convert", "-q", "-O", "raw", top, flat], {
    timeoutMs: COPY_TIMEOUT_MS,
    signal,
  });
  await chmod(flat, 0o444);
  for (const layer of layers) await rm(layer);
  await rename(flat, join(folder, "layer-0.raw"));
}

/** The disk of a VM that begins as the snapshot was; what the folder had of a disk goes. Idempotent. */
export async function diskFromSnapshot(
  snapshotFolder: string,
  vmFolder: string,
  format: DiskFormat,
  signal: AbortSignal,
): Promise<void> {
  await removeDisk(vmFolder);
  const layers = layersIn(snapshotFolder);
  if (format === "raw") {
    const [only] = layers;
    if (layers.length !== 1 || only === undefined)
      throw new HearthError("snapshot.mismatch", "A disk in layers is of no use to this driver.");
    await copySparse(only, join(vmFolder, "disk.raw"), signal);
    return chmod(join(vmFolder, "disk.raw"), 0o600);
  }
  for (const [index, layer] of layers.entries()) await link(layer, join(vmFolder, layerName(index, layer)));
  // Last, because a folder with it has a disk.
  const own = join(vmFolder, "disk.qcow2");
  // 200 kB: a program to copy it would take longer to start.
  await copyFile(join(snapshotFolder, EMPTY), own, constants.COPYFILE_FICLONE);
  await chmod(own, 0o600);
}

/** A VM's new, empty disk; what the folder had of a disk goes. */
export async function newDisk(vmFolder: string, sizeBytes: number, signal: AbortSignal): Promise<void> {
  await removeDisk(vmFolder);
  await createDisk(join(vmFolder, "disk.raw"), sizeBytes, signal);
}

/** As `growDisk`, for the disk of a VM that does not run. */
export async function growLayeredDisk(vmFolder: string, sizeBytes: number): Promise<void> {
  const { path, format } = findDisk(vmFolder);
  if (!existsSync(path)) return; // The next start makes it.
  if (format === "raw") return growDisk(path, sizeBytes);
  // It refuses to shrink by itself.
  await runOrThrow("qemu-img", ["resize", "-q", "-f", "qcow2", path, String(sizeBytes)], {
    timeoutMs: TOOL_TIMEOUT_MS,
    signal: new AbortController().signal,
  });
}

/** What a VM's disk takes by itself, without the layers that it may share, and what the guest sees. */
export async function layeredDiskUsage(vmFolder: string): Promise<DiskUsage> {
  const { path, format } = findDisk(vmFolder);
  // A first start that failed has left none.
  if (!existsSync(path)) return { allocatedBytes: 0, sizeBytes: 0 };
  const usage = await diskUsage(path);
  return format === "raw" ? usage : { ...usage, sizeBytes: await qcow2SizeBytes(path) };
}

/** From the header: bytes 24 to 31, big-endian (docs/interop/qcow2.txt of QEMU). */
async function qcow2SizeBytes(path: string): Promise<number> {
  await using file = await open(path, "r");
  const { buffer } = await file.read(Buffer.alloc(8), 0, 8, 24);
  return Number(buffer.readBigUInt64BE());
}

/** What the files in a folder take on the host's disk; a file with several names is counted in each. */
export async function folderBytes(folder: string): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(folder)) bytes += (await diskUsage(join(folder, name))).allocatedBytes;
  return bytes;
}

/**
 * Gives a VM that was suspended a new layer over the disk that it had then, so that what its guest writes can be taken
 * back: called again, the disk is again as it was. `fallAsleep` ends that.
 */
export async function overlayDisk(vmFolder: string, signal: AbortSignal): Promise<void> {
  const marker = join(vmFolder, WOKEN);
  const { path, format, layers } = findDisk(vmFolder);
  if (!existsSync(marker) && existsSync(path)) {
    await chmod(path, 0o444);
    await rename(path, join(vmFolder, `layer-${layers.length}.${format}`));
    if (layers.length >= LAYERS_MAX) await flatten(vmFolder, signal);
  }
  await writeFile(marker, "");
  const own = join(vmFolder, "disk.qcow2");
  await rm(own, { force: true });
  await createLayer(vmFolder, "disk.qcow2", signal);
  await chmod(own, 0o600);
}

/** One file out of all layers, for a VMM that knows nothing else. */
export async function flattenDisk(vmFolder: string, signal: AbortSignal): Promise<void> {
  const { path, format } = findDisk(vmFolder);
  if (format === "raw") return;
  const flat = join(vmFolder, "flat.raw");
  await runOrThrow("qemu-img", ["convert", "-q", "-O", "raw", path, flat], {
    timeoutMs: COPY_TIMEOUT_MS,
    signal,
  });
  await chmod(flat, 0o600);
  await rename(flat, join(vmFolder, "disk.raw"));
  // From here on the folder has the new disk alone, and layers that nobody names.
  await rm(path);
  for (const layer of layersIn(vmFolder)) await rm(layer);
}

/** The disk as it is now is the one to go on with. Idempotent. */
export async function fallAsleep(vmFolder: string): Promise<void> {
  await rm(join(vmFolder, WOKEN), { force: true });
}

/** Idempotent. */
export async function removeDisk(vmFolder: string): Promise<void> {
  for (const name of ["disk.qcow2", "disk.raw"]) await rm(join(vmFolder, name), { force: true });
  for (const name of await readdir(vmFolder)) if (LAYER.test(name)) await rm(join(vmFolder, name));
}

function layerName(index: number, path: string): string {
  return `layer-${index}.${path.endsWith(".raw") ? "raw" : "qcow2"}`;
}

async function copySparse(from: string, to: string, signal: AbortSignal): Promise<void> {
  await runOrThrow("cp", ["--sparse=always", "--reflink=auto", "--", from, to], {
    timeoutMs: COPY_TIMEOUT_MS,
    signal,
  });
}
