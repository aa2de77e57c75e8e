import type { CreateVm, Snapshot } from "#api/wire.ts";
import { withProgress } from "#sdk/long-request.ts";
import type { LongOptions } from "#sdk/long-request.ts";
import type { Transport } from "#sdk/transport.ts";

/**
 * The templates: snapshots of VMs that have just booted, from which similar VMs start. hearthd creates a template in
 * the background after the first VM of its kind has booted; `build` creates it before that.
 */
export class Templates {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Lists the templates, newest first. */
  list(signal?: AbortSignal): Promise<readonly Snapshot[]> {
    return this.#transport.json("GET", "/v1/templates", {}, signal);
  }

  /**
   * Creates the template from which such a VM would start, or returns it if it exists.
   * @throws HearthError `feature.missing` where such VMs always boot.
   *
   * @example
   * await hearth.templates.build({ image: "debian", memoryBytes: 512 * 2 ** 20 });
   */
  build(like: CreateVm, options: LongOptions = {}): Promise<Snapshot> {
    return withProgress(this.#transport, "POST", "/v1/templates", { body: like }, options);
  }

  /** Deletes a template. @throws HearthError `snapshot.not_found`, `snapshot.in_use` while a VM maps its memory. */
  remove(id: string, signal?: AbortSignal): Promise<void> {
    return this.#transport.json("DELETE", `/v1/templates/${encodeURIComponent(id)}`, {}, signal);
  }

  /** Deletes all templates that no VM maps. */
  prune(signal?: AbortSignal): Promise<{ readonly removed: number }> {
    return this.#transport.json("POST", "/v1/templates/prune", {}, signal);
  }
}
