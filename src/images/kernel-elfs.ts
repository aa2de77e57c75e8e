import { existsSync } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { withCleanUp } from "#base/clean-up.ts";
import { waitFileLock } from "#host/file-lock.ts";
import { removeTree } from "#host/managed-path.ts";
import { extractVmlinux } from "#images/extract-vmlinux.ts";
import type { ImageStore } from "#images/image-store.ts";
import { SharedWork } from "#base/shared-work.ts";
import type { Expected, VerifiedFiles } from "#host/verified-files.ts";

/** Extracting takes half a second, so one lock for all kernels is enough. */
const LOCK = "kernel-elf";

type Made = Expected & { readonly path: string };

/**
 * Keeps the ELF files of kernels, made when a VMM first needs one. A file's name is its sha256, by which it is verified
 * like the files of manifests. A kernel's files are removed with it.
 */
export class KernelElfs {
  readonly #store: ImageStore;
  readonly #files: VerifiedFiles;
  readonly #making = new SharedWork<Made>();
  readonly #made = new Map<string, Made>();

  constructor(store: ImageStore, files: VerifiedFiles) {
    this.#store = store;
    this.#files = files;
  }

  /**
   * Returns the path. Concurrent callers, also in other processes, wait for one extraction.
   * @param vmlinuz the kernel's bzImage, verified by the caller
   * @param ref the name of the image, for errors
   * @throws HearthError `kernel.unsupported`, `image.corrupt`, `image.not_found` if it was removed meanwhile
   */
  async ensure(kernelDigest: string, vmlinuz: string, ref: string, signal: AbortSignal): Promise<string> {
    let made = this.#made.get(kernelDigest);
    // A missing file was removed with its kernel, which has been built again since.
    if (made === undefined || !existsSync(made.path)) {
      const work = async (_: unknown, shared: AbortSignal): Promise<Made> =>
        (await this.#find(kernelDigest)) ?? (await this.#make(kernelDigest, vmlinuz, shared));
      made = await this.#making.join(kernelDigest, work, () => {}, signal);
      this.#made.set(kernelDigest, made);
    }
    await this.#files.check(made.path, made, ref, signal);
    return made.path;
  }

  async #make(kernelDigest: string, vmlinuz: string, signal: AbortSignal): Promise<Made> {
    const { paths } = this.#store;
    await paths.make();
    using locks = new DisposableStack();
    locks.use(await waitFileLock(paths.lock(LOCK), () => {}, signal));
    const found = await this.#find(kernelDigest);
    if (found !== undefined) return found;
    await this.#store.removeStagingOf(LOCK);
    const dir = await this.#store.makeStaging(LOCK);
    const make = async (): Promise<Made> => {
      const staging = join(dir, "vmlinux");
      const hash = await extractVmlinux(vmlinuz, staging, signal);
      const path = join(paths.kernelElfs(kernelDigest), `${hash.sha256}.elf`);
      await this.#store.publishForKernel(kernelDigest, staging, path, signal);
      await this.#files.trust(path, hash.sha256);
      return { ...hash, path };
    };
    return withCleanUp(make, () => removeTree(paths.tmp, dir));
  }

  async #find(kernelDigest: string): Promise<Made | undefined> {
    const dir = this.#store.paths.kernelElfs(kernelDigest);
    if (!existsSync(dir)) return undefined;
    for (const name of await readdir(dir)) {
      const hex = /^([0-9a-f]{64})\.elf$/.exec(name)?.[1];
      if (hex === undefined) continue;
      const path = join(dir, name);
      // The hash implies the size, which nothing else records.
      return { path, sha256: hex, sizeBytes: (await stat(path)).size };
    }
    return undefined;
  }
}
