import type { LostEntry, RecoverVm, Vm } from "#api/wire.ts";
import { HearthVm } from "#sdk/hearth-vm.ts";
import { withProgress } from "#sdk/long-request.ts";
import type { LongOptions } from "#sdk/long-request.ts";
import type { Transport } from "#sdk/transport.ts";

/**
 * Files in Hearth's directories that the store does not know, for example after the store was restored from a backup.
 */
export class LostFound {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Lists the entries, newest first. */
  list(signal?: AbortSignal): Promise<readonly LostEntry[]> {
    return this.#transport.json("GET", "/v1/lost-found", {}, signal);
  }

  /**
   * Creates a VM, without starting it, with the disk of a VM in `lost+found`.
   * @throws HearthError `vm.not_found`, `disk.missing`, `disk.corrupt`, `name.taken`.
   */
  async recover(name: string, vm: RecoverVm, options: LongOptions = {}): Promise<HearthVm> {
    const path = `/v1/lost-found/${encodeURIComponent(name)}/recover`;
    const made = await withProgress<Vm>(this.#transport, "POST", path, { body: vm }, options);
    return new HearthVm(this.#transport, made.name);
  }
}
