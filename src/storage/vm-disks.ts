import type { QemuImg } from "#host/qemu-img.ts";
import { scanFile } from "#host/sparse-file.ts";
import { diskFromSnapshot, finishLayers, freezeDisk, removeDisk } from "#storage/disk-layers.ts";
import type { DiskFormat } from "#storage/disk-layout.ts";
import { commitResumeOverlay, flattenDisk, dirBytes, growLayeredDisk } from "#storage/own-disk.ts";
import { layeredDiskUsage, newDisk, overlayDisk, repairDisk } from "#storage/own-disk.ts";

/** Returns all operations on the disks in the directories of VMs and snapshots, with the tools that may open them. */
export function vmDisks(tools: QemuImg) {
  return {
    create: newDisk,
    fromSnapshot: diskFromSnapshot,
    freeze: freezeDisk,
    finishLayers: (dir: string, format: DiskFormat, signal: AbortSignal, durable?: boolean) =>
      finishLayers(dir, format, tools, signal, durable),
    overlay: (dir: string, signal: AbortSignal) => overlayDisk(dir, tools, signal),
    commitResumeOverlay,
    flatten: (dir: string, signal: AbortSignal) => flattenDisk(dir, tools, signal),
    dirBytes,
    remove: removeDisk,
    repair: (dir: string, signal: AbortSignal) => repairDisk(dir, tools, signal),
    grow: (dir: string, sizeBytes: number, signal: AbortSignal) =>
      growLayeredDisk(dir, sizeBytes, tools, signal),
    usage: layeredDiskUsage,
    scan: (path: string, signal: AbortSignal) =>
      scanFile(path, (file, stop) => tools.mapRaw(file, stop), signal),
  };
}
