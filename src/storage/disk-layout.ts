/**
 * The files of a VM's writable disk in its directory: one file, or an own layer over frozen ones.
 *
 *   disk.raw                                    a disk of its own
 *   layer-0.raw ◀ layer-1.qcow2 ◀ disk.qcow2    what a snapshot has frozen, and what was written since
 *
 * Frozen layers are the same files in the directories of all VMs and snapshots that have them (hard links), so none of
 * them loses anything when another one is removed. A layer names the one below by its name alone.
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
/** Files that are whole only under another name. */
const SCRAP = /^(?:disk\.new|flat\.raw|disk\.raw\.[0-9a-f]{12}\.new)$/;
export const DISK_NAMES = [VM_NAMES.layeredDisk, VM_NAMES.rawDisk] as const;
/** An empty layer over all that a snapshot has; copied for each VM. */
export const EMPTY = SNAPSHOT_NAMES.emptyDisk;
/** QEMU looks through all of them for what was not written; more are made into one. */
export const LAYERS_MAX = 4;

/** The disk in a VM's directory, or where a new one would be. Reads the directory. */
export function findDisk(dir: string): LayeredDisk {
  const layered = join(dir, VM_NAMES.layeredDisk);
  if (!existsSync(layered)) return { path: join(dir, VM_NAMES.rawDisk), format: "raw", layers: [] };
  return { path: layered, format: "qcow2", layers: layersIn(dir) };
}

/** Whether there is a disk in the directory, or the layers of one that a crash has left without its top. */
export function hasDisk(dir: string): boolean {
  return existsSync(dir) && (existsSync(findDisk(dir).path) || layersIn(dir).length > 0);
}

/** Frozen layers that are in use. A raw layer lies on nothing: what is below it was made into it, and is on its way out. */
export function layersIn(dir: string): string[] {
  const all = allLayersIn(dir);
  return all.slice(lowestOf(all));
}

/** Frozen layers that a crash has left behind when they had been made into one. */
export function staleLayersIn(dir: string): string[] {
  const all = allLayersIn(dir);
  return all.slice(0, lowestOf(all));
}

/** The next one above all that are there. Layers know those below by name, so none is renamed that has one on it. */
export function nextLayer(dir: string, format: DiskFormat): string {
  const highest = allLayersIn(dir).at(-1);
  return join(dir, `layer-${highest === undefined ? 0 : layerIndex(highest) + 1}.${format}`);
}

/** What a crash has left of files that were being made. */
export function stagingIn(dir: string): string[] {
  const found = readdirSync(dir).filter((name) => SCRAP.test(name));
  return found.map((name) => join(dir, name));
}

/** All files of the name of a layer, the lowest first. */
export function allLayersIn(dir: string): string[] {
  const found = readdirSync(dir).filter((name) => LAYER.test(name));
  return found.toSorted((a, b) => layerIndex(a) - layerIndex(b)).map((name) => join(dir, name));
}

/** The place of a layer in its chain; NaN for another file. */
export function layerIndex(path: string): number {
  return Number(LAYER.exec(basename(path))?.[1]);
}

/** The format is a part of the name, and of nothing that a VMM could have written. */
export function layerAt(path: string): BlockLayer {
  return { path, format: path.endsWith(".raw") ? "raw" : "qcow2" };
}

function lowestOf(sorted: readonly string[]): number {
  return Math.max(
    sorted.findLastIndex((path) => path.endsWith(".raw")),
    0,
  );
}
