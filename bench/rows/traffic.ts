import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { PEERS, PrivateInternet } from "../../e2e/private-internet.ts";
import { HearthHome } from "../hearth-home.ts";
import { interleave } from "../pairs.ts";
import type { Row } from "../row.ts";

const NODE = process.execPath;
const ROOT = join(import.meta.dirname, "../..");
const PEER = join(ROOT, "e2e/internet-peer.ts");
const RULES = Array.from({ length: 20 }, (_, at) => ["--allow-cidr", `10.${at}.0.0/16:443`]).flat();
const SENT = "64M";
/** A port of the peer that takes what comes, and one where guests answer. */
const [SINK, WEB] = [19, 80];
const REQUESTS = 40;
const NAMES = 20;
const SMALL = ["--memory", "256M", "--network"];
/** The guest's end of a TAP device, and the host's. */
const [GUEST, GATEWAY] = ["192.0.0.2", "192.0.0.1"];

/** Answers each TCP client with two bytes. */
const ANSWERER = `use IO::Socket; $s = IO::Socket::INET->new(Listen => 9, LocalPort => ${WEB}) or die; while ($c = $s->accept) { sysread $c, $b, 9; print $c "ok"; close $c }`;
/** Sends requests one after the other, and prints the milliseconds of each on average. */
const CLIENT = `
const { connect } = require("node:net");
const [host, port] = process.argv.slice(1);
(async () => {
  const ask = () => new Promise((resolve, reject) => connect(Number(port), host, function () { this.write("hi"); }).on("error", reject).on("close", resolve).resume());
  await ask();
  const start = performance.now();
  for (let at = 0; at < ${REQUESTS}; at++) await ask();
  console.log((performance.now() - start) / ${REQUESTS});
})();`;
/** Asks the guest's resolver for names that it has not been asked for, and prints the milliseconds of each on average. */
const ASKER = `use IO::Socket; use Time::HiRes "time"; $s = IO::Socket::INET->new(Proto => "udp", PeerAddr => "${GATEWAY}", PeerPort => 53) or die; $t = time; for $n (1..${NAMES}) { $q = pack("n6", $n, 256, 1, 0, 0, 0) . pack("C/a C/a C", "n$n-$ARGV[0]", "example", 0) . pack("n2", 1, 1); $s->send($q); $s->recv($a, 512); length $a > 40 or die } print 1000 * (time - $t) / ${NAMES}`;

/** Measures what the namespace of a VM costs its traffic, against a VM whose TAP device has a peer beside it. Root. */
export const TRAFFIC: Row = {
  name: "traffic",
  async run({ pairs, say }) {
    if (process.geteuid?.() !== 0) {
      say("traffic: VMs of a hearthd that is not root have no network of their own");
      return [];
    }
    using internet = new PrivateInternet();
    await internet.start();
    await using home = new HearthHome();
    await internet.startDaemon({ program: join(ROOT, "bin/hearth.ts"), env: home.env });
    const start = async (name: string, ...flags: readonly string[]): Promise<void> => {
      await home.hearth(
        "run",
        "-d",
        "--name",
        name,
        ...SMALL,
        ...flags,
        "debian",
        "--",
        "perl",
        "-e",
        ANSWERER,
      );
    };
    await start("whole", "nat", ...RULES, "--publish", `8080:${WEB}`);
    await start("named", "deny-all", "--allow-domain", "*.example");
    await start("bare", "nat");
    using bare = await BareTap.of(internet, await home.ask("show", "bare", "--json"));

    const send = (vm: string, to: string) => (): Promise<number> =>
      home.hearth(
        "exec",
        vm,
        "--",
        "bash",
        "-c",
        `exec 3<>/dev/tcp/${to}/${SINK}; head -c ${SENT} /dev/zero >&3`,
      );
    const throughput = await interleave(pairs, send("whole", PEERS.public), send("bare", GATEWAY));

    const client = (host: string, port: number): string[] => [NODE, "-e", CLIENT, host, `${port}`];
    const published = async (): Promise<number> => Number(await internet.onHost(client("127.0.0.1", 8080)));
    const direct = async (): Promise<number> => Number(await bare.run(client(GUEST, WEB)));
    const latency = await interleave(pairs, published, direct);

    let asked = 0;
    const resolve = (vm: string) => async (): Promise<number> =>
      Number(await home.ask("exec", vm, "--", "perl", "-e", ASKER, `${++asked}`));
    const names = await interleave(pairs, resolve("named"), resolve("whole"));
    return [
      { what: `${SENT} to a peer, to a bare tap`, unit: "ms", ...throughput, bound: { atMost: 1 / 0.9 } },
      { what: "request to a published port, to a bare tap", unit: "ms", ...latency, bound: { atMost: 1.15 } },
      { what: "first answer for an allowed name, to upstream", unit: "ms", ...names, bound: { atMost: 2 } },
    ];
  },
};

/** A VM whose namespace has no rules and no way out: a TAP device, with a peer beside it. */
class BareTap implements Disposable {
  readonly #internet: PrivateInternet;
  readonly #path: string;
  #peer: ChildProcess | undefined;

  private constructor(internet: PrivateInternet, path: string) {
    this.#internet = internet;
    this.#path = path;
  }

  static async of(internet: PrivateInternet, shown: string): Promise<BareTap> {
    const { id } = JSON.parse(shown) as { id: string };
    const bare = new BareTap(internet, `/run/hearth/netns/${id}`);
    await bare.run(["nft", "flush", "ruleset"]);
    bare.#peer = spawn("nsenter", [`--net=${bare.#path}`, process.execPath, PEER, GATEWAY], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    if (bare.#peer.stdout) await once(bare.#peer.stdout, "data");
    return bare;
  }

  /** Runs a command in the namespace, and returns its stdout. */
  run(argv: readonly string[]): Promise<string> {
    return this.#internet.onHost(["nsenter", `--net=${this.#path}`, ...argv]);
  }

  [Symbol.dispose](): void {
    this.#peer?.kill("SIGKILL");
  }
}
