import type { OnProgress } from "#base/progress.ts";
import { findFirecracker, listFirecrackers } from "#drivers/firecracker/install/find-firecracker.ts";
import type { FirecrackerOptions, FoundFirecracker } from "#drivers/firecracker/install/find-firecracker.ts";
import { RELEASE_URL } from "#drivers/firecracker/install/firecracker-release.ts";
import type { Installation } from "#drivers/firecracker/install/install-firecracker.ts";

/** The Firecrackers of this host, as hearthd is configured. */
export class Firecrackers {
  readonly #options: FirecrackerOptions & { readonly releaseUrl?: string | undefined };

  constructor(options: FirecrackerOptions & { readonly releaseUrl?: string | undefined }) {
    this.#options = options;
  }

  /** Returns the one that is used, or why there is none. */
  find(signal: AbortSignal): Promise<FoundFirecracker> {
    return findFirecracker(this.#options, signal);
  }

  /** Returns all, in the order in which they are tried; the first suitable one is used. */
  list(signal: AbortSignal): Promise<FoundFirecracker[]> {
    return listFirecrackers(this.#options, signal);
  }

  /**
   * @param version undefined for the newest
   * @throws HearthError `input.invalid`, `download.failed`, `vmm.install_failed`, `host.disk_full`
   */
  async install(
    version: string | undefined,
    onProgress: OnProgress,
    signal: AbortSignal,
  ): Promise<Installation> {
    // Loaded only here: few hearthds ever install one.
    const { installFirecracker } = await import("#drivers/firecracker/install/install-firecracker.ts");
    const { cacheDir, releaseUrl = RELEASE_URL } = this.#options;
    const architecture = process.arch === "arm64" ? "aarch64" : "x86_64";
    return installFirecracker({ cacheDir, releaseUrl, architecture }, version, onProgress, signal);
  }
}
