import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { CACHE_NAMES } from "#base/file-names.ts";
import { HearthError } from "#base/error.ts";

/** Where things are in the cache; docs/on-disk.md says the same in words. */
export class CachePaths {
  readonly root: string;

  constructor(cacheDir: string) {
    this.root = cacheDir;
  }

  get images(): string {
    return join(this.root, CACHE_NAMES.images);
  }

  get kernels(): string {
    return join(this.root, CACHE_NAMES.kernels);
  }

  get initramfs(): string {
    return join(this.root, CACHE_NAMES.initramfs);
  }

  get elfs(): string {
    return join(this.root, CACHE_NAMES.kernelElfs);
  }

  get refs(): string {
    return join(this.root, CACHE_NAMES.refs);
  }

  get locks(): string {
    return join(this.root, CACHE_NAMES.locks);
  }

  get tmp(): string {
    return join(this.root, CACHE_NAMES.staging);
  }

  image(digest: string): string {
    return join(this.images, hex(digest));
  }

  kernel(digest: string): string {
    return join(this.kernels, hex(digest));
  }

  /** The initramfs of a kernel are together, so that they go with it. */
  kernelInitramfs(digest: string): string {
    return join(this.initramfs, hex(digest));
  }

  /** So are its ELF files. */
  kernelElfs(digest: string): string {
    return join(this.elfs, hex(digest));
  }

  ref(ref: string): string {
    return join(this.refs, `${fileName(ref)}.json`);
  }

  /** What is named after a lock in `tmp` is scrap while nobody holds that lock. */
  lock(name: string): string {
    return join(this.locks, `${fileName(name)}.lock`);
  }

  /** @param unique letters and digits */
  staging(lockName: string, unique: string): string {
    return join(this.tmp, `${fileName(lockName)}~${unique}`);
  }

  /** @throws HearthError `host.read_only` */
  async make(): Promise<void> {
    try {
      const { images, kernels, initramfs, elfs, refs, locks, tmp } = this;
      for (const dir of [images, kernels, initramfs, elfs, refs, locks, tmp])
        await mkdir(dir, { recursive: true });
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // Node says ENOENT when a directory cannot be made in a read-only file system.
      if (!["EROFS", "EACCES", "EPERM", "ENOENT"].includes(code ?? "")) throw error;
      throw new HearthError("host.read_only", `Cannot write to the cache ${this.root}`, {
        hint: "Make the directory writable, or set HEARTH_HOME to another directory.",
        cause: error,
      });
    }
  }
}

function hex(digest: string): string {
  return digest.replace(/^sha256:/, "");
}

/** Known references only come here; a colon is a nuisance in file names. */
function fileName(ref: string): string {
  return ref.replaceAll(":", "@");
}
