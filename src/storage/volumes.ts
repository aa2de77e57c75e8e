/**
 * Volumes: disks that outlive VMs, each in a directory named after the volume. Such a directory is always complete: it
 * is made under a temporary name, synced, and renamed; its removal begins with a rename as well. So a crash at any
 * moment leaves the volume or none, and a staging directory that `cleanUp` removes.
 */
import { randomBytes } from "node:crypto";
import { existsSync, renameSync } from "node:fs";
import { mkdir, open, readdir, readFile, realpath, rename, stat, writeFile } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { failAfter } from "#base/clean-up.ts";
import { VOLUME_DISK as DISK } from "#base/file-names.ts";
import { HearthError } from "#base/error.ts";
import { GIB, MIB } from "#base/sizes.ts";
import { syncPath } from "#host/atomic-file.ts";
import { makeDiskFromTree, measureTree } from "#host/disk-from-tree.ts";
import type { TreeSize } from "#host/disk-from-tree.ts";
import { removeTree } from "#host/managed-path.ts";
import { makeEmptyDisk } from "#host/mke2fs.ts";
import type { VolumeName } from "#model/ids.ts";
import { parseVolumeName } from "#model/ids.ts";
import type { Labels } from "#model/labels.ts";
import { LIMITS } from "#model/limits.ts";
import { LOCAL_OWNER } from "#model/owner.ts";
import type { Owner } from "#model/owner.ts";
import { diskUsage } from "#storage/disks.ts";

export type Volume = {
  readonly name: VolumeName;
  readonly owner: Owner;
  readonly labels: Labels;
  /** The file of the disk. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly allocatedBytes: number;
  readonly createdAtMs: number;
};

export type NewVolume = {
  readonly name: VolumeName;
  /** The default is the size of `from`, and some room. */
  readonly sizeBytes?: number | undefined;
  /** A directory of the host that is copied into the volume; absolute. */
  readonly from?: string | undefined;
  readonly labels?: Labels | undefined;
};

/** The file beside the disk; for a volume of an earlier Hearth it has the time alone. */
type VolumeRecord = Pick<Volume, "createdAtMs"> & Partial<Pick<Volume, "owner" | "labels">>;

const RECORD = "volume.json";
/** The prefix of staging directories: no volume's name begins like this. */
const STAGING_PREFIX = ".";
/** Names that `#staging` makes. */
const STAGING = /^\.[a-z0-9-]+\.[0-9a-f]{12}$/;
/** The least free space in a volume that is made from a directory. */
const ROOM_MIN_BYTES = GIB;

/** All volumes in one directory of hearthd's, which only one hearthd uses at a time. */
export class Volumes {
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  /**
   * Removes the staging directories of a hearthd that was killed. Reports what cannot be removed to `onLeft`, or
   * throws.
   * @returns the names of other directories with the same prefix
   */
  async cleanUp(
    onLeft: (path: string, error: unknown) => void = (_path, error) => {
      throw error;
    },
  ): Promise<string[]> {
    await mkdir(this.#root, { recursive: true, mode: 0o700 });
    const entries = await readdir(this.#root, { withFileTypes: true });
    const foreign: string[] = [];
    for (const entry of entries.filter(({ name }) => name.startsWith(STAGING_PREFIX))) {
      const path = join(this.#root, entry.name);
      if (STAGING.test(entry.name))
        await removeTree(this.#root, path).catch((error: unknown) => onLeft(path, error));
      else if (entry.isDirectory()) foreign.push(entry.name);
    }
    return foreign;
  }

  /** Returns the path of the volume's disk, even if there is no such volume. */
  diskPath(name: VolumeName): string {
    return join(this.#root, name, DISK);
  }

  /**
   * Tells whether the volume exists. Synchronous, so that nothing happens between the answer and what depends on it.
   */
  has(name: VolumeName): boolean {
    return existsSync(join(this.#root, name));
  }

  /** Returns the volumes, sorted by name. */
  async list(): Promise<Volume[]> {
    const names = (await readdir(this.#root)).filter(isVolumeName).toSorted();
    const found = await Promise.all(names.map((name) => this.#read(name)));
    return found.filter((volume) => volume !== undefined);
  }

  /** @throws HearthError `volume.not_found` */
  async get(name: VolumeName): Promise<Volume> {
    const found = await this.#read(name);
    if (found === undefined) throw volumeNotFound(name);
    return found;
  }

  /**
   * Makes a volume, completely or not at all.
   * @throws HearthError `name.taken`, `input.invalid` for a size that `from` does not fit into, `file.not_found`,
   * `file.refused`, `host.disk_full`
   */
  async create(volume: NewVolume, signal: AbortSignal): Promise<Volume> {
    const { name, from, labels = {} } = volume;
    if (this.has(name)) throw nameTaken(name);
    const tree = from === undefined ? undefined : await this.#readDir(from, signal);
    const sizeBytes = volume.sizeBytes ?? sizeFor(tree);
    const staging = this.#staging(name);
    try {
      await mkdir(staging, { recursive: true, mode: 0o700 });
      await fillDisk(join(staging, DISK), { sizeBytes, from, inodes: tree?.inodes ?? 0 }, signal);
      const record: VolumeRecord = { createdAtMs: Date.now(), owner: LOCAL_OWNER, labels };
      await writeFile(join(staging, RECORD), `${JSON.stringify(record)}\n`, { mode: 0o600 });
      for (const file of [join(staging, DISK), join(staging, RECORD), staging]) await syncPath(file);
      await this.#publish(staging, name);
    } catch (error) {
      await failAfter(error, () => removeTree(this.#root, staging));
    }
    return this.get(name);
  }

  /**
   * Removes a volume. It has lost its name when this returns; the removal is durable and its blocks are free when the
   * promise resolves.
   */
  remove(name: VolumeName): Promise<void> {
    const staging = this.#staging(name);
    try {
      renameSync(join(this.#root, name), staging);
    } catch (error) {
      throw (error as NodeJS.ErrnoException).code === "ENOENT" ? volumeNotFound(name) : error;
    }
    return this.#discard(staging);
  }

  /** Syncs the rename first: a power cut must not restore a volume after its removal was confirmed. */
  async #discard(staging: string): Promise<void> {
    await syncPath(this.#root);
    await removeTree(this.#root, staging);
  }

  /** @throws HearthError `input.invalid`, `file.not_found`, `file.refused` */
  async #readDir(from: string, signal: AbortSignal): Promise<TreeSize> {
    const real = await resolveDir(from);
    const root = await realpath(this.#root);
    if (`${root}/`.startsWith(real === "/" ? real : `${real}/`))
      throw new HearthError("input.invalid", `from: ${from} contains the volumes of Hearth.`, {
        hint: "Choose a directory without them, because the copy would never end.",
      });
    return measureTree(from, signal);
  }

  #staging(name: VolumeName): string {
    return join(this.#root, `${STAGING_PREFIX}${name}.${randomBytes(6).toString("hex")}`);
  }

  /**
   * Gives the volume its name. A rename never replaces a directory that is not empty: the first of two creators wins.
   */
  async #publish(staging: string, name: VolumeName): Promise<void> {
    try {
      await rename(staging, join(this.#root, name));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw code === "ENOTEMPTY" || code === "EEXIST" ? nameTaken(name) : error;
    }
    await syncPath(this.#root);
  }

  async #read(name: VolumeName): Promise<Volume | undefined> {
    const path = this.diskPath(name);
    try {
      const usage = await diskUsage(path);
      const text = await readFile(join(this.#root, name, RECORD), "utf8");
      const { createdAtMs, owner = LOCAL_OWNER, labels = {} } = JSON.parse(text) as VolumeRecord;
      return { name, owner, labels, path, ...usage, createdAtMs };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
  }
}

/** Tells whether this is a volume's directory. Other files in the directory are ignored. */
function isVolumeName(entry: string): entry is VolumeName {
  try {
    return parseVolumeName(entry) === entry;
  } catch {
    return false; // The parser's message is for users who typed the name.
  }
}

/** Returns the error for a volume that does not exist. */
export function volumeNotFound(name: string): HearthError {
  return new HearthError("volume.not_found", `There is no volume ${name}.`, {
    hint: `\`hearth volume ls\` lists the volumes; \`hearth volume create ${name} --size 4G\` creates this one.`,
  });
}

function nameTaken(name: VolumeName): HearthError {
  return new HearthError("name.taken", `A volume named ${name} already exists.`, {
    hint: "Choose another name: `hearth volume ls` lists those in use.",
  });
}

/** @throws HearthError `input.invalid`, `file.not_found`, `file.refused` */
async function resolveDir(from: string): Promise<string> {
  if (!isAbsolute(from))
    throw new HearthError("input.invalid", `from: ${from} is not an absolute path.`, {
      hint: "Give the absolute path of the directory.",
    });
  const found = await stat(from).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === "ENOENT" || cause.code === "ENOTDIR")
      throw new HearthError("file.not_found", `There is no directory ${from} on the host.`);
    throw new HearthError("file.refused", `hearthd cannot access ${from}: permission denied.`, { cause });
  });
  if (!found.isDirectory()) throw new HearthError("file.refused", `${from} is not a directory.`);
  return realpath(from);
}

/** @throws HearthError `input.invalid` without a directory to measure */
function sizeFor(tree: TreeSize | undefined): number {
  if (tree === undefined)
    throw new HearthError("input.invalid", "size: an empty volume needs a size.", {
      hint: "Add, for instance, --size 4G.",
    });
  const wanted = tree.bytes + Math.max(ROOM_MIN_BYTES, tree.bytes / 4);
  const sizeBytes = Math.ceil(wanted / MIB) * MIB;
  if (sizeBytes <= LIMITS.diskMaxBytes) return sizeBytes;
  throw new HearthError("input.invalid", "from: the directory is too large for a volume.", {
    hint: `A volume has at most ${LIMITS.diskMaxBytes / GIB}G.`,
  });
}

async function fillDisk(
  path: string,
  { sizeBytes, from, inodes }: { sizeBytes: number; from: string | undefined; inodes: number },
  signal: AbortSignal,
): Promise<void> {
  // The directory keeps everybody else out. The file can be read by all: by the uids of VMs that have it read-only.
  await using file = await open(path, "wx", 0o644);
  await file.chmod(0o644);
  await file.truncate(sizeBytes);
  const sizes = { sizeBytes, maxBytes: LIMITS.diskMaxBytes };
  if (from === undefined) await makeEmptyDisk(path, sizes, signal);
  else await makeDiskFromTree(path, from, { ...sizes, inodes }, signal);
}
