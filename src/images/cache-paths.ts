import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { CACHE_NAMES } from "#base/file-names.ts";
import { HearthError } from "#base/error.ts";

/** The paths in the cache; docs/on-disk.md describes them. */
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

  /** Contains all initramfs of a kernel, so that they are removed with it. */
  kernelInitramfs(digest: string): string {
    return join(this.initramfs, hex(digest));
  }

  /** Contains all ELF files of a kernel, for the same reason. */
  kernelElfs(digest: string): string {
    return join(this.elfs, hex(digest));
  }

  ref(ref: string): string {
    return join(this.refs, `${fileName(ref)}.json`);
  }

  /**
   * Returns the path of a lock. A directory in `tmp` that is named after it is left from a crash if the lock is free.
   */
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
      // Node reports ENOENT for a directory that cannot be made in a read-only file system.
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

/** Returns a file name for a known reference, without its colon. */
function fileName(ref: string): string {
  return ref.replaceAll(":", "@");
}
