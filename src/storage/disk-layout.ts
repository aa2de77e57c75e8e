/**
 * The files of a VM's writable disk in its directory: one file, or the VM's own layer on top of frozen ones.
 *
 *   disk.raw                                    a disk in one file
 *   layer-0.raw ◀ layer-1.qcow2 ◀ disk.qcow2    layers that snapshots have frozen, and what was written since
 *
 * Frozen layers are hard links to the same files in the directories of all VMs and snapshots that share them, so none
 * of them loses anything when another one is removed. A layer names the one below it by its file name alone.
 */
import { existsSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { SNAPSHOT_NAMES, VM_NAMES } from "#base/file-names.ts";
import type { BlockLayer } from "#host/block-node.ts";

export type DiskFormat = BlockLayer["format"];

/** Absolute paths. */
export type LayeredDisk = {
  readonly path: string;
  readonly format: DiskFormat;
  /** The lowest first. */
  readonly layers: readonly string[];
};

const LAYER = /^layer-(\d{1,6})\.(raw|qcow2)$/;
/** Temporary files, which become a disk or a layer by a rename. */
const TEMPORARY = /^(?:disk\.new|flat\.raw|disk\.raw\.[0-9a-f]{12}\.new)$/;
export const DISK_NAMES = [VM_NAMES.layeredDisk, VM_NAMES.rawDisk] as const;
/** The empty layer on top of a snapshot's layers; copied for each VM. */
export const EMPTY = SNAPSHOT_NAMES.emptyDisk;
/** The most layers of a disk. QEMU searches all of them for blocks that were not written; more are merged into one. */
export const LAYERS_MAX = 4;

/** Returns the disk in a VM's directory, or the path where a new one would be. Reads the directory. */
export function findDisk(dir: string): LayeredDisk {
  const layered = `${dir}/${VM_NAMES.layeredDisk}`;
  if (!existsSync(layered)) return { path: `${dir}/${VM_NAMES.rawDisk}`, format: "raw", layers: [] };
  return { path: layered, format: "qcow2", layers: layersIn(dir) };
}

/** Tells whether there is a disk in the directory, or the layers of one that a crash has left without its top. */
export function hasDisk(dir: string): boolean {
  return existsSync(dir) && (existsSync(findDisk(dir).path) || layersIn(dir).length > 0);
}

/**
 * Returns the frozen layers in use. A raw layer has none below: files below it were merged into it, and are to be
 * deleted.
 */
export function layersIn(dir: string): string[] {
  const all = allLayersIn(dir);
  return all.slice(lowestOf(all));
}

/** Returns the merged layers that a crash has left behind. */
export function staleLayersIn(dir: string): string[] {
  const all = allLayersIn(dir);
  return all.slice(0, lowestOf(all));
}

/**
 * Returns the path of the next layer above all existing ones. Layers know those below by name, so a layer with another
 * one on top is never renamed.
 */
export function nextLayer(dir: string, format: DiskFormat): string {
  const highest = allLayersIn(dir).at(-1);
  return join(dir, `layer-${highest === undefined ? 0 : layerIndex(highest) + 1}.${format}`);
}

/** Returns the temporary files that a crash has left. */
export function stagingIn(dir: string): string[] {
  const found = readdirSync(dir).filter((name) => TEMPORARY.test(name));
  return found.map((name) => join(dir, name));
}

/** Returns all files with the name of a layer, the lowest first. */
export function allLayersIn(dir: string): string[] {
  const found = readdirSync(dir).filter((name) => LAYER.test(name));
  return found.toSorted((a, b) => layerIndex(a) - layerIndex(b)).map((name) => join(dir, name));
}

/** Returns the position of a layer in its chain; NaN for another file. */
export function layerIndex(path: string): number {
  return Number(LAYER.exec(basename(path))?.[1]);
}

/** Returns a layer with its format, which is part of the name, because a VMM can write everything else. */
export function layerAt(path: string): BlockLayer {
  return { path, format: path.endsWith(".raw") ? "raw" : "qcow2" };
}

function lowestOf(sorted: readonly string[]): number {
  return Math.max(
    sorted.findLastIndex((path) => path.endsWith(".raw")),
    0,
  );
}
