import {
  diskFromSnapshot,
  fallAsleep,
  finishLayers,
  flattenDisk,
  folderBytes,
  freezeDisk,
  growLayeredDisk,
  layeredDiskUsage,
  newDisk,
  overlayDisk,
  removeDisk,
  repairDisk,
} from "#storage/disk-layers.ts";

/** All that is done to the disks in the folders of VMs and snapshots. */
export const VM_DISKS = {
  create: newDisk,
  fromSnapshot: diskFromSnapshot,
  freeze: freezeDisk,
  finishLayers,
  overlay: overlayDisk,
  fallAsleep,
  flatten: flattenDisk,
  folderBytes,
  remove: removeDisk,
  repair: repairDisk,
  grow: growLayeredDisk,
  usage: layeredDiskUsage,
};
