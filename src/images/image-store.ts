/**
 * Stores images and kernels on disk. Everything visible is complete: it is made in `tmp` and renamed into place under
 * one lock, first the kernel, then the image that names it, then the reference to the image.
 */
import { randomBytes } from "node:crypto";
import { mkdir, readFile, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { z } from "zod";
import { HearthError } from "#base/error.ts";
import { writeFileAtomic, syncPath } from "#host/atomic-file.ts";
import { tryFileLock, waitFileLock } from "#host/file-lock.ts";
import type { FileLock } from "#host/file-lock.ts";
import { sha256 } from "#host/hash-file.ts";
import { removeTree } from "#host/managed-path.ts";
import type { BuiltImage } from "#images/build-image.ts";
import { CachePaths } from "#images/cache-paths.ts";
import { corruptImage } from "#images/corrupt-image.ts";
import { formatManifest, parseImageManifest, parseKernelManifest } from "#images/manifest.ts";
import type { ImageManifest, KernelManifest } from "#images/manifest.ts";

/** The lock for short work: renames and removals. */
const PUBLISH_LOCK = "publish";
const MANIFEST = "manifest.json";
const reference = z.strictObject({ digest: z.string().regex(/^sha256:[0-9a-f]{64}$/) });

/** The content of the cache. It neither builds nor reads images; `ImageCache` does. */
export class ImageStore {
  readonly paths: CachePaths;

  constructor(cacheDir: string) {
    this.paths = new CachePaths(cacheDir);
  }

  /**
   * Makes a directory for one build.
   * @param lockName a lock that the caller has for as long as the directory is used
   */
  async makeStaging(lockName: string): Promise<string> {
    const dir = this.paths.staging(lockName, randomBytes(6).toString("hex"));
    await mkdir(dir);
    return dir;
  }

  /** Removes the rest of interrupted builds whose locks are free. */
  async removeStaging(): Promise<void> {
    for (const name of await namesIn(this.paths.tmp)) {
      using lock = tryFileLock(this.paths.lock(name.split("~")[0] ?? name));
      if (lock !== undefined) await removeTree(this.paths.tmp, join(this.paths.tmp, name));
    }
  }

  /** Removes the rest of earlier builds under a lock that the caller has. */
  async removeStagingOf(lockName: string): Promise<void> {
    const prefix = this.paths.staging(lockName, "");
    for (const name of await namesIn(this.paths.tmp)) {
      const path = join(this.paths.tmp, name);
      if (path.startsWith(prefix)) await removeTree(this.paths.tmp, path);
    }
  }

  /** Makes the build in `dir` visible, and `ref` mean it from now on. Returns its digest. */
  async publish(
    dir: string,
    built: BuiltImage,
    manifestFor: (kernelDigest: string) => ImageManifest,
    signal: AbortSignal,
  ): Promise<string> {
    const kernelText = formatManifest(built.kernel);
    const kernelDigest = `sha256:${sha256(kernelText)}`;
    const manifest = manifestFor(kernelDigest);
    const imageText = formatManifest(manifest);
    const digest = `sha256:${sha256(imageText)}`;
    const image = join(dir, "image");
    await mkdir(image);
    for (const file of manifest.files) await rename(join(dir, file.name), join(image, file.name));
    await writeFile(join(image, MANIFEST), imageText);
    await writeFile(join(dir, "kernel", MANIFEST), kernelText);
    const kernelFiles = built.kernel.files.map((file) => join(dir, "kernel", file.name));
    const dirs = [join(dir, "kernel", "modules"), join(dir, "kernel"), image];
    for (const path of [...kernelFiles, join(dir, "kernel", MANIFEST), join(image, MANIFEST), ...dirs]) {
      await syncPath(path);
    }
    using locks = new DisposableStack();
    locks.use(await this.#lockPublishing(signal));
    await renameUnlessThere(join(dir, "kernel"), this.paths.kernel(kernelDigest));
    await renameUnlessThere(image, this.paths.image(digest));
    for (const path of [this.paths.kernels, this.paths.images]) await syncPath(path);
    await writeFileAtomic(this.paths.ref(manifest.ref), `${JSON.stringify({ digest })}\n`);
    return digest;
  }

  /**
   * Moves `from`, a synced file in a staging directory, to `to`, in a directory that is removed with the kernel.
   * @throws HearthError `image.not_found` if the kernel was removed while the file was made
   */
  async publishForKernel(kernelDigest: string, from: string, to: string, signal: AbortSignal): Promise<void> {
    using locks = new DisposableStack();
    locks.use(await this.#lockPublishing(signal));
    if (!(await isThere(this.paths.kernel(kernelDigest))))
      throw new HearthError("image.not_found", "The kernel was removed while it was unpacked.");
    await mkdir(dirname(to), { recursive: true });
    await rename(from, to);
    for (const path of [dirname(to), dirname(dirname(to))]) await syncPath(path);
  }

  /** Removes the image, and then everything that only it needed. Idempotent. */
  async remove(digest: string, signal: AbortSignal): Promise<void> {
    using locks = new DisposableStack();
    locks.use(await this.#lockPublishing(signal));
    for (const name of await namesIn(this.paths.refs)) {
      const path = join(this.paths.refs, name);
      if ((await readReference(path)) === digest) await rm(path, { force: true });
    }
    await this.#discard(this.paths.images, this.paths.image(digest));
    const used = new Set<string>();
    for (const other of await this.imageDigests()) used.add((await this.readImage(other)).kernel);
    for (const kernel of await this.kernelDigests()) {
      if (used.has(kernel)) continue;
      await this.#discard(this.paths.kernels, this.paths.kernel(kernel));
      await removeTree(this.paths.initramfs, this.paths.kernelInitramfs(kernel));
      await removeTree(this.paths.elfs, this.paths.kernelElfs(kernel));
    }
  }

  async imageDigests(): Promise<string[]> {
    return (await namesIn(this.paths.images)).filter(isHex).map((name) => `sha256:${name}`);
  }

  async kernelDigests(): Promise<string[]> {
    return (await namesIn(this.paths.kernels)).filter(isHex).map((name) => `sha256:${name}`);
  }

  /** Returns the digest that the reference means now. */
  async resolve(ref: string): Promise<string | undefined> {
    const digest = await readReference(this.paths.ref(ref));
    return digest !== undefined && (await isThere(this.paths.image(digest))) ? digest : undefined;
  }

  async hasImage(digest: string): Promise<boolean> {
    return isThere(this.paths.image(digest));
  }

  /** @throws HearthError `image.corrupt` unless the manifest is the one that the digest names */
  async readImage(digest: string): Promise<ImageManifest> {
    const path = join(this.paths.image(digest), MANIFEST);
    return parseImageManifest(await readVerified(path, digest), path);
  }

  /** @throws HearthError `image.corrupt` unless the manifest is the one that the digest names */
  async readKernel(digest: string): Promise<KernelManifest> {
    const path = join(this.paths.kernel(digest), MANIFEST);
    return parseKernelManifest(await readVerified(path, digest), path);
  }

  #lockPublishing(signal: AbortSignal): Promise<FileLock> {
    return waitFileLock(this.paths.lock(PUBLISH_LOCK), () => {}, signal);
  }

  /** Moves it away by a rename first, so that an interrupted removal leaves no partial image. */
  async #discard(root: string, path: string): Promise<void> {
    if (!(await isThere(path))) return;
    const grave = this.paths.staging(PUBLISH_LOCK, randomBytes(6).toString("hex"));
    await rename(path, grave);
    await syncPath(root);
    await removeTree(this.paths.tmp, grave);
  }
}

async function readVerified(path: string, digest: string): Promise<string> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    throw corruptImage(path, digest, "it is missing");
  }
  if (`sha256:${sha256(text)}` !== digest)
    throw corruptImage(path, digest, "it has changed since it was built");
  return text;
}

/** Returns undefined for a reference that cannot be read: the next build writes it again. */
async function readReference(path: string): Promise<string | undefined> {
  if (!(await isThere(path))) return undefined;
  const parsed = reference.safeParse(parseJson(await readFile(path, "utf8")));
  return parsed.success ? parsed.data.digest : undefined;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // Not JSON, so it matches no schema either.
  }
}

/** Keeps an existing target: equal digests mean equal content. */
async function renameUnlessThere(from: string, to: string): Promise<void> {
  if (!(await isThere(to))) await rename(from, to);
}

async function namesIn(dir: string): Promise<string[]> {
  return (await isThere(dir)) ? readdir(dir) : [];
}

async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}

function isHex(name: string): boolean {
  return /^[0-9a-f]{64}$/.test(name);
}
