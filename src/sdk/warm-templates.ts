import type { CreateVm, Snapshot } from "#api/wire.ts";
import { withProgress } from "#sdk/long-request.ts";
import type { LongOptions } from "#sdk/long-request.ts";
import type { Transport } from "#sdk/transport.ts";

/**
 * VMs that were saved as soon as they had booted, from which new ones of the same shape start. hearthd makes them by
 * itself behind the first VM of a shape; making one here spares that VM its boot.
 */
export class WarmTemplates {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Newest first. */
  list(signal?: AbortSignal): Promise<readonly Snapshot[]> {
    return this.#transport.json("GET", "/v1/warm", {}, signal);
  }

  /**
   * Makes the template from which a VM like that would start, or finds it made.
   * @throws HearthError `feature.missing` where such VMs always boot.
   *
   * @example
   * await hearth.warm.build({ image: "debian", memoryBytes: 512 * 2 ** 20 });
   */
  build(like: CreateVm, options: LongOptions = {}): Promise<Snapshot> {
    return withProgress(this.#transport, "POST", "/v1/warm", { body: like }, options);
  }

  /** @throws HearthError `snapshot.not_found`, `snapshot.in_use` while a VM maps it. */
  remove(id: string, signal?: AbortSignal): Promise<void> {
    return this.#transport.json("DELETE", `/v1/warm/${encodeURIComponent(id)}`, {}, signal);
  }

  /** Removes all that no VM maps. */
  prune(signal?: AbortSignal): Promise<{ readonly removed: number }> {
    return this.#transport.json("POST", "/v1/warm/prune", {}, signal);
  }
}
