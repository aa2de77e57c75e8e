import type { Firecracker, Installation } from "#api/wire.ts";
import { withProgress } from "#sdk/long-request.ts";
import type { LongOptions } from "#sdk/long-request.ts";
import type { Transport } from "#sdk/transport.ts";

/** The Firecracker binaries on this host. */
export class Firecrackers {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Lists them in the order in which hearthd tries them. It uses the first that is not refused. */
  list(signal?: AbortSignal): Promise<readonly Firecracker[]> {
    return this.#transport.json("GET", "/v1/firecracker", {}, signal);
  }

  /**
   * Installs a release of Firecracker, by default the newest, or finds it installed.
   * @throws HearthError `download.failed`, `vmm.install_failed`. An earlier installation stays untouched then.
   */
  install(options: LongOptions & { readonly version?: string | undefined } = {}): Promise<Installation> {
    const body = { version: options.version };
    return withProgress(this.#transport, "POST", "/v1/firecracker", { body }, options);
  }
}
