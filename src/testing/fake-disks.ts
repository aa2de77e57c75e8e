/** Disks of a fake host: small files that say how large the disk is, and how often a guest has written to it. */
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Disks } from "#daemon/host.ts";
import { scanFile } from "#host/sparse-file.ts";
import { findDisk } from "#storage/disk-layout.ts";
import type { FakeVmms } from "#testing/fake-vmms.ts";

/** `written` stands for the content: two disks are the same when it is. */
export type FakeDisk = { readonly sizeBytes: number; readonly written: number };

/** Under a disk that sleeps, as in `src/storage/disk-layers.ts`. */
const ASLEEP = "layer-0.raw";
const WOKEN = "woken";
const SAVED = "layer-0.raw";

export type FakeDisksOn = {
  readonly vmms: FakeVmms;
  /** Called between what is more than one step for a real host, too. */
  readonly did: (effect: string) => void;
  /** What the files of any snapshot take. */
  readonly snapshotBytes: () => number;
};

/** Undefined for a path that is none of these. */
export function readFakeDisk(path: string): FakeDisk | undefined {
  if (!existsSync(path)) return undefined;
  try {
    return JSON.parse(readFileSync(path, "utf8")) as FakeDisk;
  } catch {
    return undefined; // A disk of somebody else's test.
  }
}

export function writeFakeDisk(path: string, disk: FakeDisk): void {
  writeFileSync(path, JSON.stringify(disk));
}

/** Keeps the promises of the real ones, and refuses to copy a disk while its guest may write. */
export function fakeDisks({ vmms, did, snapshotBytes }: FakeDisksOn): Disks {
  const remove = (folder: string): void => {
    for (const name of ["disk.raw", "disk.qcow2", ASLEEP]) rmSync(join(folder, name), { force: true });
  };
  const own = (folder: string): FakeDisk => diskAt(findDisk(folder).path);
  return {
    create: async (folder, sizeBytes) => {
      remove(folder);
      did("disks: removed the old one");
      writeFakeDisk(join(folder, "disk.raw"), { sizeBytes, written: 0 });
    },
    fromSnapshot: async (snapshotFolder, folder, format) => {
      const saved = diskAt(join(snapshotFolder, SAVED)); // One that is not whole costs a VM nothing.
      remove(folder);
      did("disks: removed the old one");
      writeFakeDisk(join(folder, `disk.${format}`), saved);
    },
    freeze: async (folder, snapshotFolder) => {
      const runs = vmms.running().some(({ phase, plan }) => phase === "running" && plan.stateDir === folder);
      if (runs) throw new Error("The disk is copied while its guest runs.");
      writeFakeDisk(join(snapshotFolder, SAVED), own(folder));
    },
    finishLayers: async () => {},
    overlay: async (folder) => {
      const marker = join(folder, WOKEN);
      const { path } = findDisk(folder);
      if (!existsSync(marker) && existsSync(path)) renameSync(path, join(folder, ASLEEP));
      did("disks: the disk that slept is a layer");
      writeFileSync(marker, "");
      writeFakeDisk(join(folder, "disk.qcow2"), diskAt(join(folder, ASLEEP)));
    },
    fallAsleep: async (folder) => rmSync(join(folder, WOKEN), { force: true }),
    flatten: async (folder) => {
      if (findDisk(folder).format === "raw") return;
      const disk = own(folder);
      remove(folder);
      writeFakeDisk(join(folder, "disk.raw"), disk);
    },
    repair: async (folder) => {
      const asleep = join(folder, ASLEEP);
      if (!existsSync(findDisk(folder).path) && existsSync(asleep))
        writeFakeDisk(join(folder, "disk.qcow2"), diskAt(asleep));
    },
    folderBytes: async () => snapshotBytes(),
    remove: async (folder) => remove(folder),
    grow: async (folder, sizeBytes) => {
      const { path } = findDisk(folder);
      if (existsSync(path)) writeFakeDisk(path, { ...diskAt(path), sizeBytes });
    },
    scan: (path, signal) => scanFile(path, noMap, signal),
    usage: async (folder) => ({
      allocatedBytes: 0,
      sizeBytes: readFakeDisk(findDisk(folder).path)?.sizeBytes ?? 0,
    }),
  };
}

/** Without a tool every byte is read. */
async function noMap(): Promise<string> {
  return "null";
}

function diskAt(path: string): FakeDisk {
  const disk = readFakeDisk(path);
  if (disk === undefined) throw new Error(`There is no disk ${path}.`);
  return disk;
}
