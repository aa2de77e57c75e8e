/**
 * Unpacks a tar stream that a guest made. The guest is not trusted: every name is checked, nothing is written through a
 * link, links are made last, devices are skipped, and set-uid bits are cleared. A file is written under a temporary
 * name and renamed when it is complete, so that an old one stays until then.
 */
import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { chmod, link, lutimes, mkdir, open, rename, rm, stat, symlink, utimes } from "node:fs/promises";
import { HearthError } from "#base/error.ts";
import { dirnameBytes, joinBytes, kindOf, lstatBytes, rawPath, shownPath } from "#sdk/byte-path.ts";
import type { BytePath } from "#sdk/byte-path.ts";
import type { SkippedFiles } from "#sdk/skipped-files.ts";
import { skippedRecords } from "#sdk/tar-skipped.ts";
import type { TarHeader } from "#sdk/tar-format.ts";
import { readTarMembers } from "#sdk/tar-read.ts";
import type { TarMember } from "#sdk/tar-read.ts";

export type TreeKind = "directory" | "file";

/** Returns the absolute path on the host for the root of the tree. */
export type Place = (kind: TreeKind, name: BytePath) => Promise<BytePath>;

const NAME_MAX_BYTES = 4096;
/** No Linux file system stores later times. */
const TIME_MAX_S = 2 ** 34;

/** Unpacks a guest's tar stream inside one directory and nowhere else. @throws HearthError `file.refused`. */
export async function unpackTree(
  tar: AsyncIterable<Uint8Array>,
  place: Place,
  skipped: SkippedFiles,
  signal?: AbortSignal,
): Promise<void> {
  const tree = new Tree(place, skipped);
  const onGlobal = skippedRecords(skipped);
  for await (const member of readTarMembers(tar, { onGlobal }, signal)) await tree.take(member);
  await tree.finish();
}

class Tree {
  readonly #place: Place;
  readonly #skipped: SkippedFiles;
  #rootName: BytePath | undefined;
  #target = "" as BytePath;
  /** The files that this stream has made, by name. A hard link may lead to no others. */
  readonly #files = new Set<BytePath>();
  readonly #directories = new Map<BytePath, TarHeader>();
  readonly #made = new Set<BytePath>();
  readonly #links: { readonly path: BytePath; readonly header: TarHeader }[] = [];

  constructor(place: Place, skipped: SkippedFiles) {
    this.#place = place;
    this.#skipped = skipped;
  }

  async take({ header, content }: TarMember): Promise<void> {
    const { type } = header;
    const isRoot = this.#rootName === undefined;
    if (type !== "directory" && type !== "file" && type !== "symlink" && type !== "link") {
      if (isRoot) throw refused(`${shownPath(header.name)} is a ${type}, which cannot be copied out of a VM`);
      return this.#skipped.add(header.name, `a ${type}`);
    }
    const path = await this.#pathFor(header);
    if (type === "directory") {
      await makeDirectory(path);
      this.#made.add(path);
      this.#directories.set(path, header);
    } else if (type === "file") {
      await this.#takePlace(path, header, (temporary) => writeFile(temporary, content, header));
      this.#files.add(path);
    } else {
      // Links are made after all else, so that no later entry can go through one.
      if (header.linkname.length > NAME_MAX_BYTES) throw refused("The VM sent a link that is too long");
      this.#links.push({ path, header });
    }
  }

  /** Makes the links, and then sets the modes and times that writing into a directory would have changed. */
  async finish(): Promise<void> {
    if (this.#rootName === undefined)
      throw new HearthError("file.not_found", "The VM sent an empty tar stream.");
    for (const { path, header } of this.#links) {
      await this.#takePlace(path, header, async (temporary) => {
        if (header.type === "symlink") {
          await symlink(rawPath(header.linkname), rawPath(temporary));
          const time = timeOf(header);
          if (time !== undefined) await lutimes(rawPath(temporary), time, time);
          return;
        }
        const source = this.#resolve(partsOf(header.linkname));
        if (!this.#files.has(source))
          throw refused(`${shownPath(header.name)} is a hard link to a file outside of the copied directory`);
        await link(rawPath(source), rawPath(temporary));
      });
    }
    for (const [path, header] of [...this.#directories].toReversed()) {
      await chmod(rawPath(path), modeOf(header));
      const time = timeOf(header);
      if (time !== undefined) await utimes(rawPath(path), time, time);
    }
  }

  async #pathFor(header: TarHeader): Promise<BytePath> {
    const parts = partsOf(header.name);
    if (this.#rootName === undefined) {
      if (parts.length > 1) throw refused("The VM sent a tar stream whose first entry is not its root");
      this.#rootName = parts[0] ?? ("" as BytePath);
      this.#target = await this.#place(header.type === "directory" ? "directory" : "file", this.#rootName);
    }
    const path = this.#resolve(parts);
    await this.#requireDirectories(path);
    return path;
  }

  #resolve(parts: readonly BytePath[]): BytePath {
    if (this.#rootName === "") return joinBytes(this.#target, ...parts);
    if (parts[0] !== this.#rootName)
      throw refused(`The VM sent ${shownPath(parts.join("/") as BytePath)}, which was not requested`);
    return joinBytes(this.#target, ...parts.slice(1));
  }

  /** Ensures that every directory between the root and `path` is a directory and not a link. */
  async #requireDirectories(path: BytePath): Promise<void> {
    if (path === this.#target) return;
    const parent = dirnameBytes(path);
    if (this.#made.has(parent)) return;
    if (parent !== this.#target) await this.#requireDirectories(parent);
    const stats = await lstatBytes(parent);
    if (stats === undefined) await mkdir(rawPath(parent));
    else if (!stats.isDirectory() && !(parent === this.#target && this.#rootName === "")) {
      throw refused(`${shownPath(parent)} is not a directory`);
    }
    this.#made.add(parent);
  }

  /**
   * Replaces what lies at `path` by a rename. Writing into it is unsafe: it may be a link, or a file with other names.
   */
  async #takePlace(
    path: BytePath,
    header: TarHeader,
    create: (temporary: BytePath) => Promise<void>,
  ): Promise<void> {
    await requireReplaceable(path, header);
    const temporary = joinBytes(dirnameBytes(path), `.hearth-${randomBytes(8).toString("hex")}.part`);
    try {
      await create(temporary);
      await rename(rawPath(temporary), rawPath(path));
      this.#files.delete(path);
    } finally {
      // Needed after success, too: renaming one hard link onto another of the same file leaves both.
      await rm(rawPath(temporary), { force: true });
    }
  }
}

/** @throws HearthError `file.refused` for all but regular files and links. A link may replace a link to a directory. */
async function requireReplaceable(path: BytePath, { type }: TarHeader): Promise<void> {
  const stats = await lstatBytes(path);
  if (stats === undefined || stats.isFile()) return;
  if (stats.isDirectory())
    throw refused(`${shownPath(path)} is a directory, and cannot be replaced by a file`);
  if (!stats.isSymbolicLink())
    throw refused(`${shownPath(path)} is ${kindOf(stats)} on this host, which is never replaced`);
  if (type === "symlink") return;
  const behind = await stat(rawPath(path)).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT" && error.code !== "ELOOP" && error.code !== "ENOTDIR") throw error;
    return undefined; // A dangling link leads to no directory.
  });
  if (behind?.isDirectory() === true)
    throw refused(`${shownPath(path)} is a symbolic link to a directory, and cannot be replaced by a file`);
}

/** Splits a name into its parts. @throws HearthError `file.refused` for a name that leads out of the tree. */
function partsOf(name: BytePath): readonly BytePath[] {
  if (name.length > NAME_MAX_BYTES || name.includes("\0")) throw refused("The VM sent an invalid file name");
  if (name.startsWith("/")) throw refused(`The VM sent an absolute name: ${shownPath(name)}`);
  const parts = name.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes(".."))
    throw refused(`The VM sent a name that leads out of the directory: ${shownPath(name)}`);
  return parts as BytePath[];
}

async function makeDirectory(path: BytePath): Promise<void> {
  const stats = await lstatBytes(path);
  if (stats?.isDirectory() === true) return;
  if (stats !== undefined) throw refused(`${shownPath(path)} exists, and is not a directory`);
  // The entry's own mode is set last: a directory that is not writable could not be filled.
  await mkdir(rawPath(path), { mode: 0o700 });
}

async function writeFile(path: BytePath, content: AsyncIterable<Buffer>, header: TarHeader): Promise<void> {
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  await using file = await open(rawPath(path), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  for await (const chunk of content) {
    for (let at = 0; at < chunk.byteLength;) at += (await file.write(chunk, at)).bytesWritten;
  }
  await file.chmod(modeOf(header));
  const time = timeOf(header);
  if (time !== undefined) await file.utimes(time, time);
}

/** Returns the permission bits without set-uid, set-gid and sticky. */
function modeOf({ mode, type }: TarHeader): number {
  return (Number.isInteger(mode) ? mode : type === "directory" ? 0o755 : 0o644) & 0o777;
}

/** Returns the time in seconds, or undefined if the guest sent something else. */
function timeOf({ mtimeS }: TarHeader): number | undefined {
  return Math.abs(mtimeS) < TIME_MAX_S ? mtimeS : undefined;
}

function refused(what: string): HearthError {
  return new HearthError("file.refused", `${what}.`, {
    hint: "Copy a part of it, or write a tar stream to stdout with `-`.",
  });
}
