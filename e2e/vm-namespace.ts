/** The network namespace of a VM of a `PrivateInternet`, as its host sees it. */
import { listCommands } from "#host/procfs.ts";
import type { PrivateInternet } from "./private-internet.ts";

export class VmNamespace {
  readonly #internet: PrivateInternet;
  readonly #path: string;

  constructor(internet: PrivateInternet, vmId: string, path = `/run/hearth/netns/${vmId}`) {
    this.#internet = internet;
    this.#path = path;
  }

  /** Returns the namespace of a VM whose hearthd is not root. */
  static held(internet: PrivateInternet, vmId: string): VmNamespace {
    const [holder] = networkProcesses(vmId);
    if (holder === undefined) throw new Error(`${vmId} has no network`);
    return new VmNamespace(internet, vmId, `/proc/${holder}/ns/net`);
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

/** Returns the pids of what holds and connects the networks of VMs without root: those below this directory, or this VM. */
export function networkProcesses(of: string): number[] {
  return listCommands()
    .filter(({ argv: [program = "", verb = "", ...options] }) => {
      const isHolder = program.includes("hearth-uplink-") && verb === "hold";
      return isHolder && options.some((option) => option.includes(of));
    })
    .map(({ pid }) => pid);
}
