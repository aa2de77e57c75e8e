/**
 * Keeps the images of this host: builds them at their first use, and verifies them at every use.
 *
 *     ensure(ref) ─ exists? ─ yes ─────────────────────────────┐
 *          └ no ─ join the build that runs here, or start it:  │
 *                 lock between processes ─ exists now? ─ yes ──┤
 *                      └ no ─ build in tmp ─ sync ─ rename ────┴─ image
 */
import { existsSync } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { HearthError } from "#base/error.ts";
import type { Log } from "#base/log.ts";
import { nearest } from "#base/nearest.ts";
import type { OnProgress } from "#base/progress.ts";
import { waitFileLock } from "#host/file-lock.ts";
import { removeTree } from "#host/managed-path.ts";
import type { ImageDigest } from "#model/ids.ts";
import type { Init } from "#model/vm-spec.ts";
import { BootSets } from "#images/boot-sets.ts";
import type { BootSet, BootSetOptions } from "#images/boot-sets.ts";
import { buildImage } from "#images/build-image.ts";
import type { BuildImage } from "#images/build-image.ts";
import { ImageStore } from "#images/image-store.ts";
import { newImageManifest } from "#images/manifest.ts";
import type { Architecture, ManifestFile } from "#images/manifest.ts";
import { KNOWN_REFS, findRecipe, fullRef, getRecipe } from "#images/recipes.ts";
import type { ImageConfig, Recipe } from "#images/recipes.ts";
import { SharedWork } from "#base/shared-work.ts";
import { throttleProgress } from "#images/throttle-progress.ts";
import { VerifiedFiles } from "#host/verified-files.ts";
import { corruptImage } from "#images/corrupt-image.ts";

export type ImageCacheOptions = {
  readonly cacheDir: string;
  /** The guest's agent for a CPU, such as `x86_64`. It need not exist before the first boot set. */
  readonly agentPath: (architecture: Architecture) => string;
  readonly log: Log;
  /** Builds images. Tests pass a fast one. */
  readonly build?: BuildImage | undefined;
};

/** An image that was built. */
export type Image = {
  readonly ref: string;
  readonly digest: ImageDigest;
  /** False for a build that a newer one of the same name has replaced. */
  readonly current: boolean;
  /** The kernel's release. */
  readonly kernel: string;
  readonly inits: readonly Init[];
  readonly config: ImageConfig;
  readonly packageCount: number;
  readonly sizeBytes: number;
  readonly allocatedBytes: number;
  readonly builtAtMs: number;
  readonly files: readonly ManifestFile[];
};

export type Kernel = { readonly release: string; readonly digest: string; readonly sizeBytes: number };

/** The images of one hearthd. Other processes may use the same directory at the same time. */
export class ImageCache {
  readonly #options: ImageCacheOptions;
  readonly #architecture = hostArchitecture();
  readonly #store: ImageStore;
  /** The uses of each image, by digest. */
  readonly #removing = new Set<string>();
  readonly #files = new VerifiedFiles(corruptImage);
  readonly #bootSets: BootSets;
  readonly #builds = new SharedWork<Image>();

  constructor(options: ImageCacheOptions) {
    this.#options = options;
    this.#store = new ImageStore(options.cacheDir);
    this.#bootSets = new BootSets(this.#store, this.#files, options.agentPath);
  }

  /** Removes the rest of interrupted builds, when hearthd starts. */
  async cleanUp(): Promise<void> {
    await this.#store.paths.make();
    await this.#store.removeStaging();
  }

  /**
   * Returns the image, and builds it if it does not exist. Concurrent callers, also in other processes, wait for one
   * build.
   * @throws HearthError `image.not_found`, `image.build_failed`, `host.tool_missing`, `host.disk_full`,
   * `host.read_only`
   */
  async ensure(ref: string, onProgress: OnProgress, signal: AbortSignal): Promise<Image> {
    const recipe = getRecipe(ref);
    const found = await this.find(recipe.ref);
    if (found !== undefined) return found;
    const work = (report: OnProgress, shared: AbortSignal): Promise<Image> =>
      this.#build(recipe, false, report, shared);
    return this.#builds.join(recipe.ref, work, throttleProgress(onProgress), signal);
  }

  /** Builds the image, even if it exists. VMs of the older build keep that one. */
  async rebuild(ref: string, onProgress: OnProgress, signal: AbortSignal): Promise<Image> {
    const recipe = getRecipe(ref);
    const work = (report: OnProgress, shared: AbortSignal): Promise<Image> =>
      this.#build(recipe, true, report, shared);
    return this.#builds.join(`${recipe.ref} fresh`, work, throttleProgress(onProgress), signal);
  }

  /** Returns the images, the newest first. */
  async list(): Promise<Image[]> {
    const digests = await this.#store.imageDigests();
    const images = await Promise.all(digests.map((digest) => this.#read(digest)));
    return images.toSorted((a, b) => b.builtAtMs - a.builtAtMs);
  }

  /** Finds an image by name or digest, without building it. */
  async find(refOrDigest: string): Promise<Image | undefined> {
    const digest = await this.#findDigest(refOrDigest);
    return digest === undefined ? undefined : this.#read(digest);
  }

  /** @throws HearthError `image.not_found`, with the nearest known name */
  async get(refOrDigest: string): Promise<Image> {
    return (await this.find(refOrDigest)) ?? this.#refuse(refOrDigest);
  }

  /**
   * Removes an image, also a damaged one.
   * @param assertUnused throws when the image is in use. From this call on `assertThere` throws: nothing is awaited in
   * between
   */
  async remove(refOrDigest: string, assertUnused: () => void, signal: AbortSignal): Promise<void> {
    const digest = (await this.#findDigest(refOrDigest)) ?? (await this.#refuse(refOrDigest));
    assertUnused();
    this.#removing.add(digest);
    try {
      this.#bootSets.evict(digest);
      await this.#store.remove(digest, signal);
    } finally {
      this.#removing.delete(digest);
    }
  }

  /**
   * Checks that an image still exists, for callers that looked it up some time ago.
   * @throws HearthError `image.not_found` if it was removed since then, or is being removed
   */
  assertThere(digest: ImageDigest): void {
    if (!this.#removing.has(digest) && existsSync(this.#store.paths.image(digest))) return;
    throw new HearthError("image.not_found", `The image ${digest} was removed in the meantime.`, {
      hint: "Nothing was created. Try again; a missing image is built.",
    });
  }

  /**
   * Returns the files that a VMM boots, all of them verified.
   * @throws HearthError `image.not_found` if the image or the kernel does not exist, `image.corrupt`
   */
  async bootSet(digest: ImageDigest, options: BootSetOptions, signal: AbortSignal): Promise<BootSet> {
    return this.#bootSets.get(digest, options, signal);
  }

  /**
   * Returns the path of this boot set's kernel as an ELF file, verified, for VMMs that load no bzImage. It is unpacked
   * at the first call. Only for x86-64: on others such VMMs load the boot set's own kernel.
   * @throws HearthError as `bootSet`, and `kernel.unsupported`
   */
  async kernelElf(digest: ImageDigest, options: BootSetOptions, signal: AbortSignal): Promise<string> {
    return this.#bootSets.kernelElf(digest, options, signal);
  }

  async listKernels(): Promise<Kernel[]> {
    const digests = await this.#store.kernelDigests();
    return Promise.all(
      digests.map(async (digest) => {
        const { release, files } = await this.#store.readKernel(digest);
        return { release, digest, sizeBytes: files.reduce((sum, file) => sum + file.sizeBytes, 0) };
      }),
    );
  }

  async #build(recipe: Recipe, fresh: boolean, report: OnProgress, signal: AbortSignal): Promise<Image> {
    const startedAtMs = Date.now();
    await this.#store.paths.make();
    const onWait = (): void =>
      report({ stage: "packages", text: `waiting for another build of ${recipe.ref}` });
    using locks = new DisposableStack();
    locks.use(await waitFileLock(this.#store.paths.lock(recipe.ref), onWait, signal));
    const found = fresh ? undefined : await this.find(recipe.ref);
    if (found !== undefined) return found;
    await this.#store.removeStagingOf(recipe.ref);
    const dir = await this.#store.makeStaging(recipe.ref);
    try {
      const digest = await this.#buildIn(dir, recipe, report, signal);
      this.#options.log.event("image.built", { ref: recipe.ref, digest, tookMs: Date.now() - startedAtMs });
      return await this.#read(digest);
    } finally {
      await this.#removeStaging(dir);
    }
  }

  async #buildIn(dir: string, recipe: Recipe, report: OnProgress, signal: AbortSignal): Promise<string> {
    const architecture = this.#architecture;
    const build = this.#options.build ?? buildImage;
    const built = await build({ recipe, architecture, dir }, report, signal);
    const { ref, suite, config, inits } = recipe;
    const manifestFor = (kernel: string): ReturnType<typeof newImageManifest> =>
      newImageManifest({
        ref,
        suite,
        architecture,
        builtAtMs: Date.now(),
        kernel,
        files: [built.base],
        config: { ...config, entrypoint: [...config.entrypoint], cmd: [...config.cmd] },
        inits: [...inits],
        packageCount: built.packageCount,
      });
    const digest = await this.#store.publish(dir, built, manifestFor, signal);
    await this.#files.trust(join(this.#store.paths.image(digest), built.base.name), built.base.sha256);
    return digest;
  }

  /** A failure must not replace the build's error; the next build tries again. */
  async #removeStaging(dir: string): Promise<void> {
    try {
      await removeTree(this.#store.paths.tmp, dir);
    } catch (error) {
      this.#options.log.event("clean.left_over", { path: dir, error });
    }
  }

  async #findDigest(refOrDigest: string): Promise<string | undefined> {
    if (!refOrDigest.startsWith("sha256:")) return this.#store.resolve(fullRef(refOrDigest));
    const all = await this.#store.imageDigests();
    return all.find((digest) => digest === refOrDigest);
  }

  async #read(digest: string): Promise<Image> {
    const manifest = await this.#store.readImage(digest);
    const kernel = await this.#store.readKernel(manifest.kernel);
    const dir = this.#store.paths.image(digest);
    const { ref, inits, config, packageCount, builtAtMs, files } = manifest;
    const stats = await Promise.all(files.map((file) => stat(join(dir, file.name)).catch(missing)));
    return {
      ref,
      digest: digest as ImageDigest,
      current: (await this.#store.resolve(ref)) === digest,
      kernel: kernel.release,
      inits,
      config,
      packageCount,
      sizeBytes: files.reduce((sum, file) => sum + file.sizeBytes, 0),
      allocatedBytes: stats.reduce((sum, one) => sum + (one?.blocks ?? 0) * 512, 0),
      builtAtMs,
      files,
    };
  }

  async #refuse(refOrDigest: string): Promise<never> {
    if (findRecipe(refOrDigest) !== undefined) {
      const ref = fullRef(refOrDigest);
      const hint = `Build it: hearth image build ${ref}`;
      throw new HearthError("image.not_found", `The image ${ref} is not built.`, { hint });
    }
    const built = (await this.#store.imageDigests()).map(String);
    const near = nearest(fullRef(refOrDigest), [...KNOWN_REFS, ...built]);
    const hint = near === undefined ? `Images are ${KNOWN_REFS.join(", ")}.` : `Did you mean ${near}?`;
    throw new HearthError("image.not_found", `There is no image ${JSON.stringify(refOrDigest)}.`, { hint });
  }
}

/** A list also shows a damaged image; using it reports the damage. */
function missing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== "ENOENT") throw error;
  return undefined;
}

function hostArchitecture(): Architecture {
  return process.arch === "arm64" ? "aarch64" : "x86_64";
}
