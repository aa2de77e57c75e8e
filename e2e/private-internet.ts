/**
 * An Internet and a host in network namespaces of the test, without a route out of them. hearthd runs on that host, so
 * its VMs reach what the test has made and nothing else.
 *
 *   host 203.0.113.2 ── 203.0.113.1 Internet: 198.51.100.7, a resolver, a private address, a cloud's metadata
 *
 * With IPv6 there is the same of IPv6, but the resolver.
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
export const HOST6 = "2001:db8:113::2";
export const ROUTER6 = "2001:db8:113::1";
/** Hosts of the Internet, with IPv6. */
export const PEERS6 = { public: "2001:db8:100::7", private: "fd00:1::3", metadata: "fd00:ec2::254" } as const;
const PEER = join(import.meta.dirname, "internet-peer.ts");

export class PrivateInternet implements Disposable {
  readonly #processes: ChildProcess[] = [];
  #host = 0;
  #internet = 0;

  /** Makes the two, each with a web server. */
  async start({ ipv6 = false }: { readonly ipv6?: boolean } = {}): Promise<void> {
    this.#host = await this.#serve("127.0.0.1", ...(ipv6 ? ["::1"] : []));
    const peers = [...Object.values(PEERS), ...(ipv6 ? Object.values(PEERS6) : [])];
    this.#internet = await this.#serve(findResolver() ?? "192.0.2.53", ...peers);
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
    if (!ipv6) return;
    await this.outside(["ip", "addr", "add", `${ROUTER6}/64`, "dev", "eth0", "nodad"]);
    await this.onHost(["ip", "addr", "add", `${HOST6}/64`, "dev", "wan", "nodad"]);
    await this.onHost(["ip", "route", "add", "default", "via", ROUTER6]);
  }

  /** The files of the two network namespaces. */
  get namespaces(): { readonly host: string; readonly internet: string } {
    return { host: `/proc/${this.#host}/ns/net`, internet: `/proc/${this.#internet}/ns/net` };
  }

  /** Runs a command on the Internet that must succeed, and returns its stdout. */
  outside(argv: readonly string[]): Promise<string> {
    return run(["nsenter", `--net=/proc/${this.#internet}/ns/net`, ...argv], {});
  }

  /** Starts hearthd on the host, as the user of the bed. */
  async startDaemon(bed: Pick<Bed, "program" | "env"> & Partial<Pick<Bed, "user">>): Promise<void> {
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
