import type { LostEntry, RecoverVm, Vm } from "#api/wire.ts";
import { HearthVm } from "#sdk/hearth-vm.ts";
import { withProgress } from "#sdk/long-request.ts";
import type { LongOptions } from "#sdk/long-request.ts";
import type { Transport } from "#sdk/transport.ts";

/** What hearthd found in its directories and its store does not know: after the store was restored from a backup, say. */
export class LostFound {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Newest first. */
  list(signal?: AbortSignal): Promise<readonly LostEntry[]> {
    return this.#transport.json("GET", "/v1/lost-found", {}, signal);
  }

  /**
   * Makes a new VM with the disk of a VM in `lost+found`; it is not started.
   * @throws HearthError `vm.not_found`, `disk.missing`, `disk.corrupt`, `name.taken`.
   */
  async recover(name: string, vm: RecoverVm, options: LongOptions = {}): Promise<HearthVm> {
    const path = `/v1/lost-found/${encodeURIComponent(name)}/recover`;
    const made = await withProgress<Vm>(this.#transport, "POST", path, { body: vm }, options);
    return new HearthVm(this.#transport, made.name);
  }
}
