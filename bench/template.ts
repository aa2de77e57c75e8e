/** Warm templates: made before anything is measured, and proven to have been used when it is over. */
import type { Snapshot } from "#sdk/hearth.ts";
import type { HearthHome } from "./hearth-home.ts";

/** The VMs of this table have this, as the issue that bounds it says. */
export const MEMORY = ["--memory", "512M"] as const;
/** A VM that boots, and behind which nothing is made. */
export const COLD = ["--cold", "--no-warm"] as const;

/** A warm template. The flags that it was made with are those of the VMs that start from it. */
export class Template {
  readonly id: string;
  readonly #home: HearthHome;
  readonly #madeAtMs = Date.now();

  private constructor(home: HearthHome, id: string) {
    this.#home = home;
    this.id = id;
  }

  static async build(home: HearthHome, flags: readonly string[], image = "debian"): Promise<Template> {
    const { id } = JSON.parse(await home.ask("warm", "build", "--json", ...flags, image)) as Snapshot;
    return new Template(home, id);
  }

  /**
   * A VM whose restore fails is booted, and its template is gone then: what was measured was something else.
   * @throws when that has happened, or when no VM has started from it since it was asked for.
   */
  async assertUsed(): Promise<void> {
    const found = (await (await this.#home.connect()).templates.list()).find(({ id }) => id === this.id);
    if (found === undefined) throw new Error(`Restores from ${this.id} have failed: it was retired.`);
    if (found.lastUsedAtMs <= this.#madeAtMs) throw new Error(`No VM has started from ${this.id}.`);
  }
}
