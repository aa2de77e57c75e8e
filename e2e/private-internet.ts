/**
 * An Internet and a host in network namespaces of the test, without a route out of them. hearthd runs on that host, so
 * its VMs reach what the test has made and nothing else.
 *
 *   host 203.0.113.2 ── 203.0.113.1 Internet: 198.51.100.7, a resolver, a private address, a cloud's metadata
 */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { findResolver } from "#host/resolver.ts";
import { becomeUser } from "#testing/apart-hearthd.ts";
import type { Bed } from "./bed.ts";
import { runCli } from "./run-cli.ts";
import type { CliResult } from "./run-cli.ts";

export const HOST = "203.0.113.2";
const ROUTER = "203.0.113.1";
/** Hosts of the Internet. */
export const PEERS = { public: "198.51.100.7", private: "10.1.2.3", metadata: "169.254.169.254" } as const;
const PEER = join(import.meta.dirname, "internet-peer.ts");

export class PrivateInternet implements Disposable {
  readonly #processes: ChildProcess[] = [];
  #host = 0;
  #internet = 0;

  /** Makes the two, each with a web server. */
  async start(): Promise<void> {
    this.#host = await this.#serve();
    this.#internet = await this.#serve(findResolver() ?? "192.0.2.53", ...Object.values(PEERS));
    await this.onHost(["ip", "-batch", "-"], {
      stdin: `link add wan type veth peer name eth0 netns ${this.#internet}
        addr add ${HOST}/24 dev wan
        link set wan up
        route add default via ${ROUTER}\n`,
    });
    await run(["nsenter", `--net=/proc/${this.#internet}/ns/net`, "ip", "-batch", "-"], {
      stdin: `addr add ${ROUTER}/24 dev eth0
        link set eth0 up\n`,
    });
  }

  /** Runs a command on the Internet that must succeed, and returns its stdout. */
  outside(argv: readonly string[]): Promise<string> {
    return run(["nsenter", `--net=/proc/${this.#internet}/ns/net`, ...argv], {});
  }

  /** Starts hearthd on the host, as the user of the bed. */
  async startDaemon(bed: Bed): Promise<void> {
    const become = bed.user === undefined ? [] : becomeUser(bed.user);
    await this.onHost([...become, process.execPath, bed.program, "daemon", "start"], { env: bed.env });
  }

  /** Runs a command on the host that must succeed, and returns its stdout. */
  async onHost(argv: readonly string[], options: Parameters<typeof runCli>[2] = {}): Promise<string> {
    return run(["nsenter", `--net=/proc/${this.#host}/ns/net`, ...argv], options);
  }

  /** Starts a web server in a network namespace of its own. Returns its pid. */
  async #serve(...addresses: string[]): Promise<number> {
    const argv = ["--net", process.execPath, PEER, ...addresses];
    const child = spawn("unshare", argv, { stdio: ["ignore", "pipe", "inherit"] });
    this.#processes.push(child);
    await once(child.stdout, "data");
    return child.pid ?? 0;
  }

  [Symbol.dispose](): void {
    for (const child of this.#processes) child.kill("SIGKILL");
  }
}

async function run([file = "", ...args]: readonly string[], options: Parameters<typeof runCli>[2]) {
  const env = { ...(process.env as Record<string, string>), ...options.env };
  const { code, stdout, stderr }: CliResult = await runCli(file, args, { ...options, env });
  if (code !== 0) throw new Error(`${file} ${args.join(" ")} ended with ${code}\n${stdout}\n${stderr}`);
  return stdout;
}
