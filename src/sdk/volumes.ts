import type { CreateVolume, Volume } from "#api/wire.ts";
import { withProgress } from "#sdk/long-request.ts";
import type { LongOptions } from "#sdk/long-request.ts";
import type { Transport } from "#sdk/transport.ts";

/** The volumes: disks that outlive the VMs that mount them. */
export class Volumes {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /**
   * Lists the volumes, by name.
   * @param filter such as `label=team=web`, `vm=web`, `name=data`.
   * @throws HearthError `input.invalid` for an unknown filter.
   */
  list(signal?: AbortSignal, filter: readonly string[] = []): Promise<readonly Volume[]> {
    return this.#transport.json("GET", "/v1/volumes", { query: { filter } }, signal);
  }

  /**
   * Creates a volume: empty with `sizeBytes` bytes, or with the content of the host directory `from`, which hearthd
   * reads with its own rights.
   * @throws HearthError `name.taken`, `input.invalid`, `file.not_found`, `file.refused`.
   *
   * @example
   * await hearth.volumes.create({ name: "data", sizeBytes: 4 * 2 ** 30 });
   * await hearth.vms.create({ image: "debian", volumes: [{ name: "data", path: "/data" }] });
   */
  create(volume: CreateVolume, options: LongOptions = {}): Promise<Volume> {
    return withProgress(this.#transport, "POST", "/v1/volumes", { body: volume }, options);
  }

  /** Returns a volume. @throws HearthError `volume.not_found`. */
  show(name: string, signal?: AbortSignal): Promise<Volume> {
    return this.#transport.json("GET", `/v1/volumes/${encodeURIComponent(name)}`, {}, signal);
  }

  /** Deletes a volume with its data. @throws HearthError `volume.in_use` while a VM mounts it. */
  remove(name: string, signal?: AbortSignal): Promise<void> {
    return this.#transport.json("DELETE", `/v1/volumes/${encodeURIComponent(name)}`, {}, signal);
  }
}
