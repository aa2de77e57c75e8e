/**
 * Proves disks before programs of the host open them. A VMM writes its layer as it likes, including the header, and
 * QEMU's tools open whatever a header names. So every layer is read here first, once no VMM can write to it: the VMM
 * has ended, or the layer is a frozen copy.
 */
import { lstat } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { HearthError } from "#base/error.ts";
import type { BlockLayer } from "#host/block-node.ts";
import { LIMITS } from "#model/limits.ts";
import { layerAt, layerIndex } from "#storage/disk-layout.ts";
import { proveLayer } from "#storage/qcow2-header.ts";

declare const PROVEN: unique symbol;

/** A disk that consists of these files and nothing else. Only `proveDisk` makes one. */
export type ProvenDisk = {
  /** The lowest first. */
  readonly layers: readonly BlockLayer[];
  /** The size that the guest sees. */
  readonly sizeBytes: number;
  readonly [PROVEN]: true;
};

/**
 * Proves all layers of a disk: each refers to the one before it and to nothing else.
 * @param paths absolute, the lowest first; the last one may be a VM's own layer
 * @throws HearthError `disk.corrupt` with the file and what is wrong with it, before QEMU opens anything
 */
export async function proveDisk(paths: readonly string[]): Promise<ProvenDisk> {
  const layers: BlockLayer[] = [];
  let sizeBytes = 0;
  for (const path of paths) {
    try {
      sizeBytes = await prove(layerAt(path), layers.at(-1), sizeBytes);
    } catch (cause) {
      throw notProven(path, cause);
    }
    layers.push(layerAt(path));
  }
  const [first = ""] = paths;
  if (layers.length === 0) throw notProven(first, new Error("there is no disk"));
  return { layers, sizeBytes } as unknown as ProvenDisk;
}

async function prove(layer: BlockLayer, below: BlockLayer | undefined, minBytes: number): Promise<number> {
  const stats = await lstat(layer.path);
  if (!stats.isFile()) throw new Error("it is not a regular file");
  const maxBytes = LIMITS.diskMaxBytes;
  if (layer.format === "raw") {
    if (below !== undefined) throw new Error("it has no backing file, but there is a layer below");
    if (stats.size > maxBytes) throw new Error("its disk is too large");
    return stats.size;
  }
  if (below === undefined) throw new Error("the layer below is missing");
  const index = layerIndex(layer.path);
  if (!Number.isNaN(index) && index !== layerIndex(below.path) + 1)
    throw new Error("the layer below is missing");
  const rule = { below: basename(below.path), belowFormat: below.format, minBytes, maxBytes };
  return (await proveLayer(layer.path, rule)).sizeBytes;
}

function notProven(path: string, cause: unknown): HearthError {
  const name = basename(path);
  return new HearthError(
    "disk.corrupt",
    `Refusing to open the disk in ${dirname(path)}: ${name} is not as Hearth creates it.`,
    {
      hint: "Nothing was changed. The VMM of this VM, or another program, has written to it. `hearth snapshot restore` restores an earlier disk.",
      cause,
    },
  );
}
