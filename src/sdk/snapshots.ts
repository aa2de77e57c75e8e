import type { Readable } from "node:stream";
import type { CreateSnapshot, Snapshot, Vm } from "#api/wire.ts";
import { HearthVm } from "#sdk/hearth-vm.ts";
import { withProgress } from "#sdk/long-request.ts";
import type { LongOptions } from "#sdk/long-request.ts";
import type { Transport } from "#sdk/transport.ts";

export type ImportOptions = LongOptions & {
  /** In place of the one that it had. */
  readonly name?: string | undefined;
};

/** VMs as they were at one moment, to go back to and to make others from. All methods take a name or an id. */
export class Snapshots {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /**
   * Newest first. Filters are those of `hearth snapshot ls --filter`: `label=KEY`, `label=KEY=VALUE`, `vm=NAME` and
   * `name=PART`.
   */
  list(signal?: AbortSignal, filter: readonly string[] = []): Promise<readonly Snapshot[]> {
    return this.#transport.json("GET", "/v1/snapshots", { query: { filter } }, signal);
  }

  /**
   * Saves a VM: its disk, and its memory if it runs and `diskOnly` is not set. One that runs is halted for a moment
   * and goes on. Without a name it is called after the VM and the time.
   * @throws HearthError `vm.wrong_phase`, `name.taken`, `feature.missing`, `snapshot.failed`; nothing is left then.
   *
   * @example
   * const { name } = await hearth.snapshots.create({ vm: "web", name: "before-upgrade", labels: { kept: "yes" } });
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

  /**
   * The snapshot as one file, which another host takes: read it to its end, or destroy it. It begins when hearthd has
   * read all of the snapshot once. A stream that ends without an error was whole.
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
   * A snapshot from what `export` gave, under the name that it had there unless another one is given. The archive is
   * not trusted, and read to its end or destroyed.
   * @throws HearthError `snapshot.corrupt`, `name.taken`, `image.not_found`, `snapshot.mismatch`; nothing is left then.
   *
   * @example
   * const { name } = await hearth.snapshots.import(createReadStream("before-upgrade.tar.zst"), { name: "old" });
   */
  import(archive: Readable, options: ImportOptions = {}): Promise<Snapshot> {
    // It may break before it is sent. Whoever sends it looks whether it has.
    archive.on("error", () => undefined);
    const stream = { from: archive, contentType: "application/zstd" };
    const more = { query: { name: options.name }, stream };
    return withProgress(this.#transport, "POST", "/v1/snapshots/import", more, options);
  }
}

function pathOf(name: string): string {
  return `/v1/snapshots/${encodeURIComponent(name)}`;
}
