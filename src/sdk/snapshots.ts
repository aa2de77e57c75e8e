import type { Readable } from "node:stream";
import type { CreateSnapshot, Snapshot, Vm } from "#api/wire.ts";
import { HearthVm } from "#sdk/hearth-vm.ts";
import { withProgress } from "#sdk/long-request.ts";
import type { LongOptions } from "#sdk/long-request.ts";
import type { Transport } from "#sdk/transport.ts";

export type ImportOptions = LongOptions & {
  /** The name of the new snapshot; by default the one that it was exported under. */
  readonly name?: string | undefined;
};

/** The snapshots of VMs, which VMs are restored to and created from. All methods take a name or an id. */
export class Snapshots {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /**
   * Lists the snapshots, newest first. The filters are those of `hearth snapshot ls --filter`: `label=KEY`,
   * `label=KEY=VALUE`, `vm=NAME` and `name=PART`.
   */
  list(signal?: AbortSignal, filter: readonly string[] = []): Promise<readonly Snapshot[]> {
    return this.#transport.json("GET", "/v1/snapshots", { query: { filter } }, signal);
  }

  /**
   * Creates a snapshot of a VM: of its disk, and of its memory if it runs and `diskOnly` is not set. A VM that runs is
   * paused for a moment. By default the snapshot is named after the VM and the time.
   * @throws HearthError `vm.wrong_phase`, `name.taken`, `feature.missing`, `snapshot.failed`. No files are left then.
   * @throws HearthError `vm.wrong_phase`, `name.taken`, `feature.missing`, `snapshot.failed`; nothing is left then.
   *
   * @example
   * const { name } = await hearth.snapshots.create({ vm: "web", name: "before-upgrade", labels: { kept: "yes" } });
   * const copy = await hearth.vms.create({ snapshot: "before-upgrade", name: "web-2" });
   */
  create(request: CreateSnapshot, options: LongOptions = {}): Promise<Snapshot> {
    return withProgress(this.#transport, "POST", "/v1/snapshots", { body: request }, options);
  }

  /** Returns a snapshot. @throws HearthError `snapshot.not_found`. */
  show(name: string, signal?: AbortSignal): Promise<Snapshot> {
    return this.#transport.json("GET", pathOf(name), {}, signal);
  }

  /**
   * Deletes a snapshot.
   * @throws HearthError `snapshot.in_use` while a VM maps its memory, or is yet to start from it.
   */
  remove(name: string, signal?: AbortSignal): Promise<void> {
    return this.#transport.json("DELETE", pathOf(name), {}, signal);
  }

  /**
   * Restores the VM of a snapshot: whatever it did since is lost. The VM continues from the snapshot's memory; without
   * one, it boots if it was running.
   * @throws HearthError `vm.not_found` when that VM is gone, `snapshot.mismatch`, `snapshot.corrupt`.
   */
  async restore(name: string, options: LongOptions = {}): Promise<HearthVm> {
    const path = `${pathOf(name)}/restore`;
    const vm = await withProgress<Vm>(this.#transport, "POST", path, {}, options);
    return new HearthVm(this.#transport, vm.name);
  }

  /**
   * Exports a snapshot as one file that another host can import. The stream starts after hearthd has read the whole
   * snapshot once; read it to its end, or destroy it. A stream that ends without an error is complete.
   * @throws HearthError `snapshot.not_found`, `snapshot.corrupt`.
   *
   * @example
   * await pipeline(await hearth.snapshots.export("before-upgrade"), createWriteStream("before-upgrade.tar.zst"));
   */
  async export(name: string, options: Pick<LongOptions, "signal"> = {}): Promise<Readable> {
    const { signal } = options;
    const answer = await this.#transport.open("GET", `${pathOf(name)}/archive`, {}, signal);
    const { answerStream } = await import("#sdk/answer-stream.ts");
    return answerStream(answer, signal);
  }

  /**
   * Imports a snapshot from what `export` returned. The archive is not trusted. It is read to its end or destroyed.
   * @throws HearthError `snapshot.corrupt`, `name.taken`, `image.not_found`, `snapshot.mismatch`. No files are left
   * then.
   * @throws HearthError `snapshot.corrupt`, `name.taken`, `image.not_found`, `snapshot.mismatch`; nothing is left then.
   *
   * @example
   * const { name } = await hearth.snapshots.import(createReadStream("before-upgrade.tar.zst"), { name: "old" });
   */
  import(archive: Readable, options: ImportOptions = {}): Promise<Snapshot> {
    // The archive may fail before it is sent. The request checks for that.
    archive.on("error", () => undefined);
    const stream = { from: archive, contentType: "application/zstd" };
    const more = { query: { name: options.name }, stream };
    return withProgress(this.#transport, "POST", "/v1/snapshots/import", more, options);
  }
}

function pathOf(name: string): string {
  return `/v1/snapshots/${encodeURIComponent(name)}`;
}
