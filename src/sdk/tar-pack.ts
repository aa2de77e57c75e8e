import { lstat, open, readdir, readlink } from "node:fs/promises";
import type { Stats } from "node:fs";
import { join } from "node:path";
import type { Header, Pack } from "tar-stream";
import { HearthError } from "#base/error.ts";

type HeaderOf = Partial<Header> & Pick<Header, "name">;

/** Big enough that neither the disk nor the socket waits for us. */
const CHUNK_BYTES = 512 * 1024;

/** Packs a file or a folder with all below it under `name`; an empty `name` packs what is in the folder. */
export async function packTree(tar: Pack, path: string, name: string, signal?: AbortSignal): Promise<void> {
  await packPath(tar, path, name, new Map(), signal);
}

/** `linked` has the first name of each file that has several: the others become links to it, as on the host. */
async function packPath(
  tar: Pack,
  path: string,
  name: string,
  linked: Map<string, string>,
  signal: AbortSignal | undefined,
): Promise<void> {
  signal?.throwIfAborted();
  const stats = await lstat(path);
  if (stats.isDirectory()) {
    if (name !== "") await entry(tar, { ...header(stats, `${name}/`), type: "directory" });
    const children = (await readdir(path)).toSorted();
    for (const child of children) {
      await packPath(tar, join(path, child), name === "" ? child : `${name}/${child}`, linked, signal);
    }
  } else if (stats.isSymbolicLink()) {
    await entry(tar, { ...header(stats, name), type: "symlink", linkname: await readlink(path) });
  } else if (stats.isFile()) {
    const first = stats.nlink > 1 ? linked.get(`${stats.dev}:${stats.ino}`) : undefined;
    if (first !== undefined) return entry(tar, { ...header(stats, name), type: "link", linkname: first });
    if (stats.nlink > 1) linked.set(`${stats.dev}:${stats.ino}`, name);
    await packFile(tar, path, { ...header(stats, name), type: "file", size: stats.size });
  } else {
    throw new HearthError("file.refused", `${path} is neither a file, a folder nor a link.`, {
      hint: "Copy what is beside it by name, or pass a tar stream on stdin.",
    });
  }
}

/** In the guest the files belong to root, whoever has them here. */
function header(stats: Stats, name: string): HeaderOf {
  return { name, mode: stats.mode & 0o7777, mtime: stats.mtime, uid: 0, gid: 0 };
}

function entry(tar: Pack, headers: HeaderOf): Promise<void> {
  return new Promise((resolve, reject) => {
    tar.entry(headers, "", (error) => (error ? reject(error) : resolve()));
  });
}

async function packFile(tar: Pack, path: string, headers: HeaderOf): Promise<void> {
  if (headers.size === 0) return entry(tar, headers);
  await using file = await open(path, "r");
  const { promise: written, resolve, reject } = Promise.withResolvers<void>();
  const sink = tar.entry(headers, (error) => (error ? reject(error) : resolve()));
  let left = headers.size ?? 0;
  while (left > 0) {
    const { bytesRead, buffer } = await file.read(
      Buffer.allocUnsafe(Math.min(CHUNK_BYTES, left)),
      0,
      Math.min(CHUNK_BYTES, left),
    );
    if (bytesRead === 0) {
      throw new HearthError("file.refused", `${path} became shorter while it was copied.`, {
        hint: "Copy it again.",
      });
    }
    left -= bytesRead;
    // The callback of `written` also fires when the tar stream breaks, so this never waits for ever.
    if (!sink.write(buffer.subarray(0, bytesRead))) {
      await Promise.race([new Promise<void>((done) => sink.once("drain", () => done())), written]);
    }
  }
  sink.end(null);
  await written;
}
