import type { CreateSnapshot, Snapshot, Vm } from "#api/wire.ts";
import { HearthVm } from "#sdk/hearth-vm.ts";
import { withProgress } from "#sdk/long-request.ts";
import type { LongOptions } from "#sdk/long-request.ts";
import type { Transport } from "#sdk/transport.ts";

/** VMs as they were at one moment, to go back to and to make others from. All methods take a name or an id. */
export class Snapshots {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Newest first. */
  list(signal?: AbortSignal): Promise<readonly Snapshot[]> {
    return this.#transport.json("GET", "/v1/snapshots", {}, signal);
  }

  /**
   * Saves a VM: its disk, and its memory if it runs and `diskOnly` is not set. One that runs is halted for a moment
   * and goes on. Without a name it is called after the VM and the time.
   * @throws HearthError `vm.wrong_phase`, `name.taken`, `feature.missing`, `snapshot.failed`; nothing is left then.
   *
   * @example
   * const { name } = await hearth.snapshots.create({ vm: "web", name: "before-upgrade" });
   * const copy = await hearth.vms.create({ snapshot: "before-upgrade", name: "web-2" });
   */
  create(request: CreateSnapshot, options: LongOptions = {}): Promise<Snapshot> {
    return withProgress(this.#transport, "POST", "/v1/snapshots", { body: request }, options);
  }

  /** @throws HearthError `snapshot.not_found`. */
  show(name: string, signal?: AbortSignal): Promise<Snapshot> {
    return this.#transport.json("GET", pathOf(name), {}, signal);
  }

  /** @throws HearthError `snapshot.in_use` while a VM maps it, or is yet to start from it. */
  remove(name: string, signal?: AbortSignal): Promise<void> {
    return this.#transport.json("DELETE", pathOf(name), {}, signal);
  }

  /**
   * Puts the VM that was saved back to where it was: what it has done since is gone. It goes on if its memory was
   * saved, and otherwise boots if it ran.
   * @throws HearthError `vm.not_found` when that VM is gone, `snapshot.mismatch`, `snapshot.corrupt`.
   */
  async restore(name: string, options: LongOptions = {}): Promise<HearthVm> {
    const path = `${pathOf(name)}/restore`;
    const vm = await withProgress<Vm>(this.#transport, "POST", path, {}, options);
    return new HearthVm(this.#transport, vm.name);
  }
}

function pathOf(name: string): string {
  return `/v1/snapshots/${encodeURIComponent(name)}`;
}
