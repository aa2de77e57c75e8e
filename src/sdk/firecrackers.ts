import type { Firecracker, Installation } from "#api/wire.ts";
import { withProgress } from "#sdk/long-request.ts";
import type { LongOptions } from "#sdk/long-request.ts";
import type { Transport } from "#sdk/transport.ts";

/** The Firecrackers that hearthd finds, and installing one. */
export class Firecrackers {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** In the order in which hearthd tries them; the first that is not refused is the one that it uses. */
  list(signal?: AbortSignal): Promise<readonly Firecracker[]> {
    return this.#transport.json("GET", "/v1/firecracker", {}, signal);
  }

  /**
   * Installs a release, the newest unless told, or finds it installed.
   * @throws HearthError `download.failed`, `vmm.install_failed`; what was installed before stays as it was.
   */
  install(options: LongOptions & { readonly version?: string | undefined } = {}): Promise<Installation> {
    const body = { version: options.version };
    return withProgress(this.#transport, "POST", "/v1/firecracker", { body }, options);
  }
}
