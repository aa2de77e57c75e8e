/**
 * Volumes: disks that outlive VMs, in a directory each, named after the volume. A directory that has its name is whole:
 * it was made under another name, synced, and renamed; it goes by a rename first, too. So a crash at any moment
 * leaves a volume or none, and scrap that `cleanUp` takes.
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
  /** Undefined takes what `from` needs, and room to work. */
  readonly sizeBytes?: number | undefined;
  /** A directory of the host whose content it begins with; absolute. */
  readonly from?: string | undefined;
  readonly labels?: Labels | undefined;
};

/** Holds what is written beside the disk; of a volume that an earlier Hearth made, the time alone. */
type VolumeRecord = Pick<Volume, "createdAtMs"> & Partial<Pick<Volume, "owner" | "labels">>;

const RECORD = "volume.json";
/** No volume's name begins like this. */
const SCRAP = ".";
/** What `#scrap` makes. */
const OURS = /^\.[a-z0-9-]+\.[0-9a-f]{12}$/;
/** Beside the content of a directory. */
const ROOM_MIN_BYTES = GIB;

/** All volumes under one directory of hearthd's. One hearthd at a time. */
export class Volumes {
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  /**
   * Removes what a hearthd that was killed was making or removing. What cannot be removed is told to `onLeft`, or thrown.
   * @returns the names of directories that begin as those do, and are none of them
   */
  async cleanUp(
    onLeft: (path: string, error: unknown) => void = (_path, error) => {
      throw error;
    },
  ): Promise<string[]> {
    await mkdir(this.#root, { recursive: true, mode: 0o700 });
    const entries = await readdir(this.#root, { withFileTypes: true });
    const strange: string[] = [];
    for (const entry of entries.filter(({ name }) => name.startsWith(SCRAP))) {
      const path = join(this.#root, entry.name);
      if (OURS.test(entry.name))
        await removeTree(this.#root, path).catch((error: unknown) => onLeft(path, error));
      else if (entry.isDirectory()) strange.push(entry.name);
    }
    return strange;
  }

  /** Its disk, whether or not it is there. */
  diskPath(name: VolumeName): string {
    return join(this.#root, name, DISK);
  }

  /** Asked and answered at once, so that nothing comes between the answer and what follows from it. */
  has(name: VolumeName): boolean {
    return existsSync(join(this.#root, name));
  }

  /** By name. */
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
   * Makes a volume, whole or not at all.
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

  /** The volume is gone when this returns, for good and with its blocks when it resolves. */
  remove(name: VolumeName): Promise<void> {
    const staging = this.#staging(name);
    try {
      renameSync(join(this.#root, name), staging);
    } catch (error) {
      throw (error as NodeJS.ErrnoException).code === "ENOENT" ? volumeNotFound(name) : error;
    }
    return this.#discard(staging);
  }

  /** Its old name first: a power cut must not bring it back when its removal was answered. */
  async #discard(staging: string): Promise<void> {
    await syncPath(this.#root);
    await removeTree(this.#root, staging);
  }

  /** @throws HearthError `input.invalid`, `file.not_found`, `file.refused` */
  async #readDir(from: string, signal: AbortSignal): Promise<TreeSize> {
    const real = await resolveDir(from);
    const root = await realpath(this.#root);
    if (`${root}/`.startsWith(real === "/" ? real : `${real}/`))
      throw new HearthError("input.invalid", `from: ${from} holds the volumes themselves.`, {
        hint: "Choose a directory that does not: a copy would never end.",
      });
    return measureTree(from, signal);
  }

  #staging(name: VolumeName): string {
    return join(this.#root, `${SCRAP}${name}.${randomBytes(6).toString("hex")}`);
  }

  /** A directory that is not empty is never replaced by a rename: the first of two wins. */
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

/** Whatever else somebody put into the directory is not ours to judge. */
function isVolumeName(entry: string): entry is VolumeName {
  try {
    return parseVolumeName(entry) === entry;
  } catch {
    return false; // The parser's sentence is for people who typed it.
  }
}

/** What every place says about a volume that is not there. */
export function volumeNotFound(name: string): HearthError {
  return new HearthError("volume.not_found", `There is no volume ${name}.`, {
    hint: `\`hearth volume ls\` shows the volumes; \`hearth volume create ${name} --size 4G\` makes it.`,
  });
}

function nameTaken(name: VolumeName): HearthError {
  return new HearthError("name.taken", `There is a volume named ${name} already.`, {
    hint: "Choose another name: `hearth volume ls` shows those that are taken.",
  });
}

/** @throws HearthError `input.invalid`, `file.not_found`, `file.refused` */
async function resolveDir(from: string): Promise<string> {
  if (!isAbsolute(from))
    throw new HearthError("input.invalid", `from: ${from} is not an absolute path.`, {
      hint: "hearthd has no current directory; give the whole path.",
    });
  const found = await stat(from).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === "ENOENT" || cause.code === "ENOTDIR")
      throw new HearthError("file.not_found", `There is no directory ${from} on the host.`);
    throw new HearthError("file.refused", `hearthd may not look at ${from}.`, { cause });
  });
  if (!found.isDirectory()) throw new HearthError("file.refused", `${from} is not a directory.`);
  return realpath(from);
}

/** @throws HearthError `input.invalid` without a directory to measure */
function sizeFor(tree: TreeSize | undefined): number {
  if (tree === undefined)
    throw new HearthError("input.invalid", "size: an empty volume needs one.", {
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
  // The directory lets nobody else in. The file itself may be read by all: the uids of VMs that are shown it read-only.
  await using file = await open(path, "wx", 0o644);
  await file.chmod(0o644);
  await file.truncate(sizeBytes);
  const sizes = { sizeBytes, maxBytes: LIMITS.diskMaxBytes };
  if (from === undefined) await makeEmptyDisk(path, sizes, signal);
  else await makeDiskFromTree(path, from, { ...sizes, inodes }, signal);
}
