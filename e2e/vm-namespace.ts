/** The network namespace of a VM of a `PrivateInternet`, as its host sees it. */
import type { PrivateInternet } from "./private-internet.ts";

export class VmNamespace {
  readonly #internet: PrivateInternet;
  readonly #path: string;

  constructor(internet: PrivateInternet, vmId: string) {
    this.#internet = internet;
    this.#path = `/run/hearth/netns/${vmId}`;
  }

  /** Runs a command that must succeed, and returns its stdout. */
  run(argv: readonly string[], stdin = ""): Promise<string> {
    return this.#internet.onHost(["nsenter", `--net=${this.#path}`, ...argv], { stdin });
  }

  /** Removes a table of nftables until the result is disposed of. */
  async without(table: string): Promise<AsyncDisposable> {
    const rules = await this.run(["nft", "list", "table", ...table.split(" ")]);
    await this.run(["nft", "delete", "table", ...table.split(" ")]);
    return { [Symbol.asyncDispose]: async () => void (await this.run(["nft", "-f", "-"], rules)) };
  }

  /** Counts the packets that come to an interface and match, until the result is disposed of. */
  async count(from: string, match: string): Promise<AsyncDisposable & { packets(): Promise<number> }> {
    const chain = `type filter hook prerouting priority raw; iifname "${from}" ${match} counter`;
    await this.run(["nft", "-f", "-"], `table inet counted { chain seen { ${chain}; }; }\n`);
    return {
      packets: async () => {
        const listed = await this.run(["nft", "list", "table", "inet", "counted"]);
        return Number(/packets (\d+)/.exec(listed)?.[1]);
      },
      [Symbol.asyncDispose]: async () => void (await this.run(["nft", "delete", "table", "inet", "counted"])),
    };
  }
}
