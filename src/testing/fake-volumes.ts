import type { CreateVolume, Volume } from "#api/wire.ts";
import { HearthError } from "#base/error.ts";

/** The volumes of a fake hearthd. */
export class FakeVolumes {
  readonly #volumes = new Map<string, Volume>();

  /** What a request to `/v1/volumes`, or to one of them, is answered with. */
  answer(method: string | undefined, name: string | undefined, request: CreateVolume): unknown {
    if (method === "POST") return this.#create(request);
    if (name === undefined) return [...this.#volumes.values()];
    const volume = this.#volumes.get(name);
    if (volume === undefined) throw new HearthError("volume.not_found", `There is no volume ${name}.`);
    if (method !== "DELETE") return volume;
    this.#volumes.delete(name);
    return undefined;
  }

  #create({ name, sizeBytes = 2 ** 30 }: CreateVolume): Volume {
    const path = `/s/volumes/${name}/volume.raw`;
    const volume = {
      name,
      owner: "local",
      labels: {},
      path,
      sizeBytes,
      allocatedBytes: 0,
      createdAtMs: 0,
      usedBy: [],
    };
    this.#volumes.set(name, volume);
    return volume;
  }
}
