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
import { copySparse } from "#host/copy-sparse.ts";
import { runOrThrow } from "#host/run.ts";
import { createDisk, diskUsage, growDisk } from "#storage/disks.ts";
import type { DiskUsage } from "#storage/disks.ts";
import { checkForeignLayer } from "#storage/qcow2-header.ts";

export type DiskFormat = "raw" | "qcow2";

/** Absolute paths. */
export type LayeredDisk = {
  readonly path: string;
  readonly format: DiskFormat;
  /** The lowest first. */
  readonly layers: readonly string[];
};

const LAYER = /^layer-(\d{1,6})\.(raw|qcow2)$/;
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

/** A raw layer lies on nothing: what is below it was made into it, and is on its way out. */
function layersIn(folder: string): string[] {
  const found = readdirSync(folder).filter((name) => LAYER.test(name));
  const sorted = found.toSorted((a, b) => indexOf(a) - indexOf(b));
  const lowest = sorted.findLastIndex((name) => name.endsWith(".raw"));
  return sorted.slice(Math.max(lowest, 0)).map((name) => join(folder, name));
}

/** The next one above all that are there. Layers know those below by name, so none is renamed that has one on it. */
function nextLayer(folder: string, format: DiskFormat): string {
  const indexes = readdirSync(folder).flatMap((name) => (LAYER.test(name) ? [indexOf(name)] : []));
  return join(folder, `layer-${Math.max(-1, ...indexes) + 1}.${format}`);
}

/** Whether there is a disk in the folder, or the layers of one that a crash has left without its top. */
export function hasDisk(folder: string): boolean {
  return existsSync(findDisk(folder).path) || layersIn(folder).length > 0;
}

function indexOf(name: string): number {
  return Number(LAYER.exec(name)?.[1]);
}

/**
 * Freezes the disk in the folder of a VM that stands still, as layers in the folder of a snapshot. What the VM has
 * written into its own layer is copied, by reference where the file system can: the VM waits for that.
 */
export async function freezeDisk(
  vmFolder: string,
  snapshotFolder: string,
  signal: AbortSignal,
): Promise<void> {
  const { path, format, layers } = findDisk(vmFolder);
  if (!existsSync(path))
    throw new HearthError("snapshot.failed", "The VM has no disk yet.", {
      hint: "Start it once: hearth start",
    });
  for (const layer of layers) await link(layer, join(snapshotFolder, basename(layer)));
  const top = nextLayer(snapshotFolder, format);
  // Most have written little: a program to copy it would take longer to start, and the VM waits.
  if (format === "qcow2") await copyFile(path, top, constants.COPYFILE_FICLONE);
  else await copySparse(path, top, signal);
  await chmod(top, 0o444);
}

/** For VMs to come: fewer layers where there are too many, and an empty one for them. Not while the VM waits. */
export async function finishLayers(
  snapshotFolder: string,
  format: DiskFormat,
  signal: AbortSignal,
  durable = true,
): Promise<void> {
  if (layersIn(snapshotFolder).length > LAYERS_MAX) await flatten(snapshotFolder, signal);
  if (format === "qcow2") {
    await createLayer(snapshotFolder, EMPTY, signal);
    await chmod(join(snapshotFolder, EMPTY), 0o400);
  }
  // Nothing counts as saved that a power cut would take away.
  if (!durable) return;
  for (const name of await readdir(snapshotFolder)) await sync(join(snapshotFolder, name));
  await sync(snapshotFolder);
}

async function sync(path: string): Promise<void> {
  await using file = await open(path, "r");
  await file.sync();
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

/** One layer out of all; at every moment there is a whole disk in the folder. */
async function flatten(folder: string, signal: AbortSignal): Promise<void> {
  const layers = layersIn(folder);
  const flat = await convert(layers.at(-1) ?? "", folder, signal);
  await chmod(flat, 0o444);
  const only = nextLayer(folder, "raw");
  await rename(flat, only);
  for (const layer of layers) await rm(layer);
  // Nothing lies on it yet, so that it may still get the lowest name.
  await rename(only, join(folder, "layer-0.raw"));
}

/** With all layers below it, as one file on the disk itself. */
async function convert(top: string, folder: string, signal: AbortSignal): Promise<string> {
  const flat = join(folder, "flat.raw");
  const options = { timeoutMs: COPY_TIMEOUT_MS, signal };
  await runOrThrow("qemu-img", ["convert", "-q", "-O", "raw", top, flat], options);
  await sync(flat);
  return flat;
}

/**
 * The disk of a VM that begins as the snapshot was; what the folder had of a disk goes. Idempotent.
 * @throws HearthError `snapshot.corrupt` when a file of it is missing; the folder is as before then
 */
export async function diskFromSnapshot(
  snapshotFolder: string,
  vmFolder: string,
  format: DiskFormat,
  signal: AbortSignal,
): Promise<void> {
  const layers = await wholeLayers(snapshotFolder, format);
  await removeDisk(vmFolder);
  if (format === "raw") {
    const [only] = layers;
    if (layers.length !== 1 || only === undefined)
      throw new HearthError("snapshot.mismatch", "A disk in layers is of no use to this driver.");
    await copySparse(only, join(vmFolder, "disk.raw"), signal);
    return chmod(join(vmFolder, "disk.raw"), 0o600);
  }
  for (const layer of layers) await link(layer, join(vmFolder, basename(layer)));
  // Last, because a folder with it has a disk.
  const own = join(vmFolder, "disk.qcow2");
  // 200 kB: a program to copy it would take longer to start.
  await copyFile(join(snapshotFolder, EMPTY), own, constants.COPYFILE_FICLONE);
  await chmod(own, 0o600);
}

async function wholeLayers(folder: string, format: DiskFormat): Promise<string[]> {
  const layers = layersIn(folder);
  const top = basename(layers.at(-1) ?? "");
  try {
    if (layers.length === 0 || layers.some((layer, index) => indexOf(basename(layer)) !== index))
      throw new Error("a layer is missing");
    const belowFormat = top.endsWith(".raw") ? "raw" : "qcow2";
    const rule = { below: top, belowFormat, maxBytes: Number.MAX_SAFE_INTEGER } as const;
    if (format === "qcow2") await checkForeignLayer(join(folder, EMPTY), rule);
    return layers;
  } catch (cause) {
    throw new HearthError("snapshot.corrupt", `The disk that was saved in ${folder} is not whole.`, {
      hint: "Nothing was started. Remove the snapshot, and make another one.",
      cause,
    });
  }
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
  const { path, format } = findDisk(vmFolder);
  if (!existsSync(marker) && existsSync(path)) {
    await chmod(path, 0o444);
    await rename(path, nextLayer(vmFolder, format));
  }
  if (layersIn(vmFolder).length > LAYERS_MAX) await flatten(vmFolder, signal);
  await writeFile(marker, "");
  await putLayerOnTop(vmFolder, signal);
}

/** What a crash has left without its top gets an empty one: what was written is all in the layers below. */
export async function repairDisk(vmFolder: string, signal: AbortSignal): Promise<void> {
  if (!existsSync(findDisk(vmFolder).path) && hasDisk(vmFolder)) await putLayerOnTop(vmFolder, signal);
}

async function putLayerOnTop(vmFolder: string, signal: AbortSignal): Promise<void> {
  const own = join(vmFolder, "disk.qcow2");
  await rm(own, { force: true });
  const fresh = "disk.new";
  await rm(join(vmFolder, fresh), { force: true });
  await createLayer(vmFolder, fresh, signal);
  await chmod(join(vmFolder, fresh), 0o600);
  await rename(join(vmFolder, fresh), own);
}

/** One file out of all layers, for a VMM that knows nothing else. */
export async function flattenDisk(vmFolder: string, signal: AbortSignal): Promise<void> {
  const { path, format } = findDisk(vmFolder);
  if (format === "raw") return;
  const layers = layersIn(vmFolder);
  const flat = await convert(path, vmFolder, signal);
  await chmod(flat, 0o600);
  await rename(flat, join(vmFolder, "disk.raw"));
  // From here on the folder has the new disk alone, and layers that nobody names.
  await rm(path);
  for (const layer of layers) await rm(layer);
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
