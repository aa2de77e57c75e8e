import { join } from "node:path";
import { HearthError } from "#base/error.ts";
import type { Init } from "#model/vm-spec.ts";
import { MODULES_DISK } from "#images/build-kernel.ts";
import type { ImageStore } from "#images/image-store.ts";
import { InitramfsCache } from "#images/initramfs-cache.ts";
import type { KernelParts } from "#images/initramfs-cache.ts";
import { KernelElfs } from "#images/kernel-elfs.ts";
import type { Architecture, ImageManifest, KernelManifest } from "#images/manifest.ts";
import type { ImageConfig } from "#images/recipes.ts";
import type { VerifiedFiles } from "#host/verified-files.ts";

export type BootSetOptions = {
  /** A release from `listKernels`; undefined takes the image's own kernel. */
  readonly kernel?: string | undefined;
};

/** The files that a VMM boots, verified against their manifests. The paths are absolute if the cache's is. */
export type BootSet = {
  readonly kernel: string;
  readonly initramfs: string;
  readonly base: string;
  /** A disk with the kernel's modules; undefined for kernels that were built before there was one. */
  readonly modules: string | undefined;
  readonly config: ImageConfig;
  readonly inits: readonly Init[];
  readonly kernelRelease: string;
  readonly kernelDigest: string;
};

const BASE = "base.ext4";
const KERNEL = "vmlinuz";
const MODULES = "modules/";

/** Assembles the boot sets of built images. Every file is verified when it is used. */
export class BootSets {
  readonly #store: ImageStore;
  readonly #files: VerifiedFiles;
  readonly #initramfs: InitramfsCache;
  readonly #elfs: KernelElfs;
  readonly #agentPath: (architecture: Architecture) => string;
  /** Manifests that were verified against their digest. They never change under one digest. */
  readonly #images = new Map<string, ImageManifest>();
  readonly #kernels = new Map<string, KernelManifest>();

  constructor(store: ImageStore, files: VerifiedFiles, agentPath: (architecture: Architecture) => string) {
    this.#store = store;
    this.#files = files;
    this.#agentPath = agentPath;
    this.#initramfs = new InitramfsCache((digest) => store.paths.kernelInitramfs(digest), files);
    this.#elfs = new KernelElfs(store, files);
  }

  async get(digest: string, options: BootSetOptions, signal: AbortSignal): Promise<BootSet> {
    const image = await this.#image(digest);
    const kernelDigest = await this.#kernelFor(image, options.kernel);
    const kernel = await this.#kernel(kernelDigest);
    const kernelDir = this.#store.paths.kernel(kernelDigest);
    const base = join(this.#store.paths.image(digest), BASE);
    const vmlinuz = join(kernelDir, KERNEL);
    await this.#check(base, BASE, image, image.ref, signal);
    await this.#check(vmlinuz, KERNEL, kernel, image.ref, signal);
    const modules = kernel.files.some(({ name }) => name === MODULES_DISK)
      ? join(kernelDir, MODULES_DISK)
      : undefined;
    if (modules !== undefined) await this.#check(modules, MODULES_DISK, kernel, image.ref, signal);
    const prepare = (shared: AbortSignal): Promise<KernelParts> =>
      this.#verifiedParts(kernelDigest, kernel, image.ref, shared);
    const agent = this.#agentPath(image.architecture);
    const initramfs = await this.#initramfs.ensure(kernelDigest, agent, image.ref, prepare, signal);
    const { config, inits } = image;
    const kernelRelease = kernel.release;
    return { kernel: vmlinuz, initramfs, base, modules, config, inits, kernelRelease, kernelDigest };
  }

  /** The kernel of `get`, as an ELF file. */
  async kernelElf(digest: string, options: BootSetOptions, signal: AbortSignal): Promise<string> {
    const image = await this.#image(digest);
    const kernelDigest = await this.#kernelFor(image, options.kernel);
    const kernel = await this.#kernel(kernelDigest);
    const vmlinuz = join(this.#store.paths.kernel(kernelDigest), KERNEL);
    await this.#check(vmlinuz, KERNEL, kernel, image.ref, signal);
    return this.#elfs.ensure(kernelDigest, vmlinuz, image.ref, signal);
  }

  /** The image is being removed, and its kernel may be removed with it. */
  evict(digest: string): void {
    this.#images.delete(digest);
    this.#kernels.clear();
  }

  async #verifiedParts(
    digest: string,
    kernel: KernelManifest,
    ref: string,
    signal: AbortSignal,
  ): Promise<KernelParts> {
    const dir = this.#store.paths.kernel(digest);
    const modules = kernel.files.filter((file) => file.name.startsWith(MODULES));
    for (const file of modules) await this.#files.check(join(dir, file.name), file, ref, signal);
    return {
      digest,
      modules: modules.map(({ name }) => ({ name: name.slice(MODULES.length), path: join(dir, name) })),
    };
  }

  async #check(
    path: string,
    name: string,
    manifest: ImageManifest | KernelManifest,
    ref: string,
    signal: AbortSignal,
  ): Promise<void> {
    const file = manifest.files.find((one) => one.name === name);
    if (file === undefined)
      throw new HearthError("image.corrupt", `The manifest of ${ref} does not list ${name}.`);
    await this.#files.check(path, file, ref, signal);
  }

  async #image(digest: string): Promise<ImageManifest> {
    const known = this.#images.get(digest);
    if (known !== undefined) return known;
    if (!(await this.#store.hasImage(digest))) {
      throw new HearthError("image.not_found", `The image ${digest} is no longer in the cache.`, {
        hint: "The VM needs exactly this build of the image. Restore it into the cache from a backup; the disk of the VM is kept.",
      });
    }
    const manifest = await this.#store.readImage(digest);
    this.#images.set(digest, manifest);
    return manifest;
  }

  async #kernel(digest: string): Promise<KernelManifest> {
    const manifest = this.#kernels.get(digest) ?? (await this.#store.readKernel(digest));
    this.#kernels.set(digest, manifest);
    return manifest;
  }

  /** Prefers the image's own kernel if it has that release: another suite's build may have the same name. */
  async #kernelFor(image: ImageManifest, release: string | undefined): Promise<string> {
    if (release === undefined || (await this.#kernel(image.kernel)).release === release) return image.kernel;
    for (const digest of (await this.#store.kernelDigests()).toSorted()) {
      if ((await this.#kernel(digest)).release === release) return digest;
    }
    throw new HearthError("image.not_found", `There is no kernel ${JSON.stringify(release)}.`, {
      hint: "`hearth kernel ls` lists the kernels.",
    });
  }
}
