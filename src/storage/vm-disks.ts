import type { QemuImg } from "#host/qemu-img.ts";
import { scanFile } from "#host/sparse-file.ts";
import { diskFromSnapshot, finishLayers, freezeDisk, removeDisk } from "#storage/disk-layers.ts";
import type { DiskFormat } from "#storage/disk-layout.ts";
import { fallAsleep, flattenDisk, folderBytes, growLayeredDisk } from "#storage/own-disk.ts";
import { layeredDiskUsage, newDisk, overlayDisk, repairDisk } from "#storage/own-disk.ts";

/** All that is done to the disks in the folders of VMs and snapshots, with the tools that may open them. */
export function vmDisks(tools: QemuImg) {
  return {
    create: newDisk,
    fromSnapshot: diskFromSnapshot,
    freeze: freezeDisk,
    finishLayers: (folder: string, format: DiskFormat, signal: AbortSignal, durable?: boolean) =>
      finishLayers(folder, format, tools, signal, durable),
    overlay: (folder: string, signal: AbortSignal) => overlayDisk(folder, tools, signal),
    fallAsleep,
    flatten: (folder: string, signal: AbortSignal) => flattenDisk(folder, tools, signal),
    folderBytes,
    remove: removeDisk,
    repair: (folder: string, signal: AbortSignal) => repairDisk(folder, tools, signal),
    grow: (folder: string, sizeBytes: number, signal: AbortSignal) =>
      growLayeredDisk(folder, sizeBytes, tools, signal),
    usage: layeredDiskUsage,
    scan: (path: string, signal: AbortSignal) =>
      scanFile(path, (file, stop) => tools.mapRaw(file, stop), signal),
  };
}
