/**
 * Unpacks a tar stream that a guest made. The guest is not trusted: every name is checked, nothing is written
 * through a link, links are made last, devices are refused and set-uid bits dropped. tar-stream bounds the headers.
 */
import { constants } from "node:fs";
import { link, mkdir, open, rm, symlink, utimes, lutimes, chmod } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Readable } from "node:stream";
import { extract } from "tar-stream";
import type { Extract, Header } from "tar-stream";
import { HearthError } from "#base/error.ts";
import { lstatIfThere } from "#sdk/lstat-if-there.ts";
import { printableName } from "#sdk/printable-name.ts";

export type TreeKind = "folder" | "file";

/** Answers where on the host the root of the tree goes. */
export type Place = (kind: TreeKind, name: string) => Promise<string>;

type Entry = AsyncIterable<Uint8Array> & { readonly header: Header };

const NAME_MAX_BYTES = 4096;

type Later = { readonly path: string; readonly headers: Header };

/** Unpacks what a guest sent, inside one folder and nowhere else. @throws HearthError `file.refused` */
export async function unpackTree(tar: Readable, place: Place, signal?: AbortSignal): Promise<void> {
  const entries = extract();
  const tree = new Tree(place);
  const fed = feed(tar, entries, signal);
  // Whoever breaks first is awaited below; the other must not be an unhandled rejection until then.
  fed.catch(() => undefined);
  try {
    for await (const entry of entries) {
      await tree.take(entry as unknown as Entry);
      entry.resume();
    }
    await fed;
  } catch (error) {
    entries.destroy(null);
    throw asRefusal(error);
  }
  await tree.finish();
}

async function feed(tar: Readable, entries: Extract, signal?: AbortSignal): Promise<void> {
  try {
    for await (const chunk of tar as AsyncIterable<Buffer>) {
      signal?.throwIfAborted();
      if (!entries.write(chunk)) await drained(entries);
    }
    entries.end(null);
  } catch (error) {
    entries.destroy(error as Error);
    throw error;
  }
}

function drained(entries: Extract): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const done = (): void => {
    entries.off("drain", done).off("close", done);
    resolve();
  };
  entries.on("drain", done).on("close", done);
  return promise;
}

class Tree {
  readonly #place: Place;
  #rootName: string | undefined;
  #target = "";
  /** Files that this stream made, by name: the only ones that a hard link may lead to. */
  readonly #files = new Set<string>();
  readonly #folders = new Map<string, Header>();
  readonly #made = new Set<string>();
  readonly #links: Later[] = [];

  constructor(place: Place) {
    this.#place = place;
  }

  async take(entry: Entry): Promise<void> {
    const { header } = entry;
    const path = await this.#pathFor(header);
    switch (header.type) {
      case "directory":
        await makeFolder(path);
        this.#made.add(path);
        this.#folders.set(path, header);
        return;
      case "file":
      case "contiguous-file":
        await this.#makeRoom(path);
        await writeFile(path, entry, header);
        this.#files.add(path);
        return;
      case "symlink":
      case "link":
        // Made when everything else is there, so that no later entry can go through one.
        if (Buffer.byteLength(header.linkname ?? "") > NAME_MAX_BYTES)
          throw refused("The VM sent a link that is too long");
        this.#links.push({ path, headers: header });
        return;
      default:
        throw refused(
          `${printableName(header.name)} is a ${header.type ?? "thing"}, which is not copied out of a VM`,
        );
    }
  }

  /** Links, and then what writing into a folder would have changed. */
  async finish(): Promise<void> {
    if (this.#rootName === undefined)
      throw new HearthError("file.not_found", "The VM sent an empty tar stream.");
    for (const { path, headers } of this.#links) {
      await this.#makeRoom(path);
      if (headers.type === "link") {
        const source = this.#resolve(partsOf(headers.linkname ?? ""));
        if (!this.#files.has(source))
          throw refused(`${printableName(headers.name)} is a link to a file outside of what is copied`);
        await link(source, path);
      } else {
        await symlink(headers.linkname ?? "", path);
        if (headers.mtime) await lutimes(path, headers.mtime, headers.mtime);
      }
    }
    for (const [path, headers] of [...this.#folders].toReversed()) {
      await chmod(path, modeOf(headers, 0o755));
      if (headers.mtime) await utimes(path, headers.mtime, headers.mtime);
    }
  }

  async #pathFor(header: Header): Promise<string> {
    const parts = partsOf(header.name);
    if (this.#rootName === undefined) {
      if (parts.length > 1) throw refused("The VM sent a tar stream whose first entry is not its root");
      this.#rootName = parts[0] ?? "";
      this.#target = await this.#place(header.type === "directory" ? "folder" : "file", this.#rootName);
    }
    const path = this.#resolve(parts);
    await this.#requireFolders(path);
    return path;
  }

  #resolve(parts: readonly string[]): string {
    if (this.#rootName === "") return join(this.#target, ...parts);
    if (parts[0] !== this.#rootName)
      throw refused(`The VM sent ${printableName(parts.join("/"))}, which was not asked for`);
    return join(this.#target, ...parts.slice(1));
  }

  /** Every folder between the root and `path` is a real one, never a link. */
  async #requireFolders(path: string): Promise<void> {
    if (path === this.#target) return;
    const parent = dirname(path);
    if (this.#made.has(parent)) return;
    if (parent !== this.#target) await this.#requireFolders(parent);
    const stats = await lstatIfThere(parent);
    if (stats === undefined) await mkdir(parent);
    else if (!stats.isDirectory() && !(parent === this.#target && this.#rootName === "")) {
      throw refused(`${printableName(parent)} is not a folder, and nothing is copied through it`);
    }
    this.#made.add(parent);
  }

  /** What is there is replaced, never written into: it may be a link, or a file with other names. */
  async #makeRoom(path: string): Promise<void> {
    const stats = await lstatIfThere(path);
    if (stats === undefined) return;
    if (stats.isDirectory())
      throw refused(`${printableName(path)} is a folder, and a file cannot take its place`);
    await rm(path);
    this.#files.delete(path);
  }
}

/** @throws HearthError `file.refused` for a name that leads elsewhere. */
function partsOf(name: string): readonly string[] {
  if (Buffer.byteLength(name) > NAME_MAX_BYTES || name.includes("\0"))
    throw refused("The VM sent a name that no file can have");
  if (name.startsWith("/")) throw refused(`The VM sent an absolute name: ${printableName(name)}`);
  const parts = name.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes(".."))
    throw refused(`The VM sent a name that leads out of the folder: ${printableName(name)}`);
  return parts;
}

async function makeFolder(path: string): Promise<void> {
  const stats = await lstatIfThere(path);
  if (stats?.isDirectory()) return;
  if (stats !== undefined) throw refused(`${printableName(path)} is there, and is not a folder`);
  // Its own mode comes last: a folder that may not be written could not be filled.
  await mkdir(path, { mode: 0o700 });
}

async function writeFile(path: string, entry: Entry, headers: Header): Promise<void> {
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  await using file = await open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  for await (const chunk of entry) {
    for (let at = 0; at < chunk.byteLength;) at += (await file.write(chunk, at)).bytesWritten;
  }
  await file.chmod(modeOf(headers, 0o644));
  if (headers.mtime) await file.utimes(headers.mtime, headers.mtime);
}

/** Without set-uid, set-gid and sticky. */
function modeOf({ mode }: Header, fallback: number): number {
  return (Number.isInteger(mode) ? mode : fallback) & 0o777;
}

function asRefusal(error: unknown): unknown {
  const { message } = error as Error;
  if (
    error instanceof HearthError ||
    !/^(Invalid tar header|Unexpected end of data|Header exceeds)/.test(message ?? "")
  )
    return error;
  return new HearthError("file.refused", "The VM sent what is not a whole tar stream", { cause: error });
}

function refused(what: string): HearthError {
  return new HearthError("file.refused", `${what}.`, {
    hint: "Copy a part of it, or take the tar stream on stdout with -.",
  });
}
