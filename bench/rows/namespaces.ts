import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { interleave } from "../pairs.ts";
import type { Measure } from "../pairs.ts";
import type { Row } from "../row.ts";

const HOST = join(import.meta.dirname, "../namespace-host.ts");
const MANY = 100;

/** Measures making a VM's network beside those of 100 VMs, against making one beside that of another. Needs root. */
export const NAMESPACES: Row = {
  name: "namespaces",
  async run({ pairs, say }) {
    if (process.geteuid?.() !== 0) {
      say("namespaces: VMs of a hearthd that is not root have no network of their own");
      return [];
    }
    say(`namespaces: ${MANY} networks`);
    await using many = await NetworkHost.start(MANY);
    await using one = await NetworkHost.start(1);
    await interleave(1, many.make, one.make);
    const measured = await interleave(pairs, many.make, one.make);
    return [{ what: `network beside ${MANY}, to 1`, unit: "ms", ...measured, bound: { atMost: 1.5 } }];
  },
};

class NetworkHost implements AsyncDisposable {
  readonly #dir = mkdtempSync(join(tmpdir(), "hearth-bench-"));
  readonly #process;
  readonly #lines;

  private constructor(count: number) {
    const argv = ["--net", process.execPath, HOST, join(this.#dir, "netns"), `${count}`];
    this.#process = spawn("unshare", argv, { stdio: ["pipe", "pipe", "inherit"] });
    this.#lines = createInterface(this.#process.stdout)[Symbol.asyncIterator]();
  }

  static async start(count: number): Promise<NetworkHost> {
    const host = new NetworkHost(count);
    await host.#lines.next();
    return host;
  }

  /** Makes one more network, and removes it. Returns how long making it took, in milliseconds. */
  readonly make: Measure = async () => {
    this.#process.stdin.write("\n");
    return Number((await this.#lines.next()).value);
  };

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#process, "exit");
    this.#process.stdin.end();
    await ended;
    rmSync(this.#dir, { recursive: true });
  }
}
