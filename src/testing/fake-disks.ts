/** Disks of a fake host: small files that say how large the disk is, and how often a guest has written to it. */
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Disks } from "#daemon/host.ts";
import { scanFile } from "#host/sparse-file.ts";
import { VM_NAMES } from "#base/file-names.ts";
import { findDisk } from "#storage/disk-layout.ts";
import type { FakeVmms } from "#testing/fake-vmms.ts";

/** `written` stands for the content: two disks are the same when it is. */
export type FakeDisk = { readonly sizeBytes: number; readonly written: number };

/** Under a disk that sleeps, as in `src/storage/disk-layers.ts`. */
const SUSPENDED = "layer-0.raw";
const SAVED = "layer-0.raw";

export type FakeDisksOn = {
  readonly vmms: FakeVmms;
  /** Called between what is more than one step for a real host, too. */
  readonly did: (effect: string) => void;
  /** Returns the size of any snapshot's files. */
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
  const remove = (dir: string): void => {
    for (const name of ["disk.raw", "disk.qcow2", SUSPENDED]) rmSync(join(dir, name), { force: true });
  };
  const own = (dir: string): FakeDisk => diskAt(findDisk(dir).path);
  return {
    create: async (dir, sizeBytes) => {
      remove(dir);
      did("disks: removed the old one");
      writeFakeDisk(join(dir, "disk.raw"), { sizeBytes, written: 0 });
    },
    fromSnapshot: async (snapshotDir, dir, format) => {
      const saved = diskAt(join(snapshotDir, SAVED)); // One that is not whole costs a VM nothing.
      remove(dir);
      did("disks: removed the old one");
      writeFakeDisk(join(dir, `disk.${format}`), saved);
    },
    freeze: async (dir, snapshotDir) => {
      const runs = vmms.running().some(({ phase, plan }) => phase === "running" && plan.stateDir === dir);
      if (runs) throw new Error("The disk is copied while its guest runs.");
      writeFakeDisk(join(snapshotDir, SAVED), own(dir));
    },
    finishLayers: async () => {},
    overlay: async (dir) => {
      const marker = join(dir, VM_NAMES.resumed);
      const { path } = findDisk(dir);
      if (!existsSync(marker) && existsSync(path)) renameSync(path, join(dir, SUSPENDED));
      did("disks: the disk that slept is a layer");
      writeFileSync(marker, "");
      writeFakeDisk(join(dir, "disk.qcow2"), diskAt(join(dir, SUSPENDED)));
    },
    commitResumeOverlay: async (dir) => {
      for (const marker of [VM_NAMES.resumed, VM_NAMES.olderResumed])
        rmSync(join(dir, marker), { force: true });
    },
    flatten: async (dir) => {
      if (findDisk(dir).format === "raw") return;
      const disk = own(dir);
      remove(dir);
      writeFakeDisk(join(dir, "disk.raw"), disk);
    },
    repair: async (dir) => {
      const suspended = join(dir, SUSPENDED);
      if (!existsSync(findDisk(dir).path) && existsSync(suspended))
        writeFakeDisk(join(dir, "disk.qcow2"), diskAt(suspended));
    },
    dirBytes: async () => snapshotBytes(),
    remove: async (dir) => remove(dir),
    grow: async (dir, sizeBytes) => {
      const { path } = findDisk(dir);
      if (existsSync(path)) writeFakeDisk(path, { ...diskAt(path), sizeBytes });
    },
    scan: (path, signal) => scanFile(path, noMap, signal),
    usage: async (dir) => ({
      allocatedBytes: 0,
      sizeBytes: readFakeDisk(findDisk(dir).path)?.sizeBytes ?? 0,
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
