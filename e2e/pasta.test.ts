/** VMs of a hearthd that is not root have a network of their own, by pasta, with the same policy as all others. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { VmNetworkView, VmStats } from "#api/wire.ts";
import { findProgram } from "#host/find-program.ts";
import { findProcess, isAlive, listCommands, readUids, signalProcess } from "#host/procfs.ts";
import type { ProcessRef } from "#host/procfs.ts";
import { APART, becomeUser } from "#testing/apart-hearthd.ts";
import { apartDenial } from "./apart.ts";
import { Bed } from "./bed.ts";
import { HOST, PEERS, PrivateInternet } from "./private-internet.ts";
import { networkProcesses, VmNamespace } from "./vm-namespace.ts";

const skip = apartDenial() ?? (findProgram("pasta") === undefined ? "pasta is not installed" : false);
const SMALL = ["--memory", "256M", "--network", "nat"];
/** An address that the host gets while a VM runs. */
const LATER = "203.0.113.50";

describe("a VM with --network nat of a hearthd that is not root", { skip }, () => {
  const internet = new PrivateInternet();
  const bed = new Bed({ warm: true, alone: true });
  let emptyHost = "";

  before(async () => {
    await internet.start();
    await bed.until(async () => !(await hostState()).includes("NO-CARRIER"));
    emptyHost = await hostState();
    await internet.startDaemon(bed);
    await bed.ok(["run", "-d", "--name", "web", "--cold", ...SMALL, "debian", "--", "sleep", "100000"]);
  });
  after(async () => {
    await bed.hearth(["daemon", "stop"]);
    internet[Symbol.dispose]();
  });

  async function hostState(): Promise<string> {
    const commands = [
      ["ip", "-o", "link"],
      ["ip", "route"],
      ["nft", "list", "ruleset"],
    ];
    return (await Promise.all(commands.map((argv) => internet.onHost(argv)))).join("\n");
  }

  /** Returns what a web server says to the guest, or the error of the connection. */
  const get = async (vm: string, address: string): Promise<string> => {
    const request = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && tail -n 1 <&3";
    const script = `timeout 5 bash -c "exec 3<>/dev/tcp/${address}/80 && ${request}" 2>&1 || true`;
    return bed.sh(vm, script);
  };
  const namespaceOf = async (vm: string): Promise<VmNamespace> =>
    VmNamespace.held(internet, (await bed.vm(vm)).id);

  const assertPolicy = async (vm: string): Promise<void> => {
    assert.equal(await get(vm, PEERS.public), `from ${HOST} to ${PEERS.public}\n`);
    assert.equal(
      await bed.sh(vm, "getent ahostsv4 name.example | head -n 1 | cut -d ' ' -f 1"),
      `${PEERS.public}\n`,
    );
    for (const denied of [PEERS.private, PEERS.metadata, HOST, "198.18.0.1", "198.18.0.2", "192.0.0.1"])
      assert.match(await get(vm, denied), /No route to host|timed out|^$/i, denied);
  };

  test("hearthd's user reaches all that the VM must not", async () => {
    assert.notEqual(bed.uid, 0);
    const { pid = 0 } = bed.daemon() ?? {};
    assert.deepEqual(new Set(readUids(pid)), new Set([bed.uid]));
    for (const address of [...Object.values(PEERS), HOST, "127.0.0.1"]) {
      const script = `fetch("http://${address}/").then((r) => r.text()).then((t) => process.stdout.write(t))`;
      assert.match(await internet.onHost([process.execPath, "-e", script]), new RegExp(`to ${address}\n$`));
    }
  });

  test("reaches public addresses and names after a boot, and no others", () => assertPolicy("web"));

  test("does not reach the host by an address that it gets later", async () => {
    const web = await namespaceOf("web");
    await internet.onHost(["ip", "addr", "add", `${LATER}/32`, "dev", "lo"]);
    await bed.until(async () => (await web.run(["nft", "list", "ruleset"])).includes(LATER));
    assert.match(await get("web", LATER), /No route to host/);
    {
      await using _open = await web.without("inet hearth_host");
      for (const address of [LATER, HOST])
        assert.match(await get("web", address), /from/, "without the rule");
    }
    await internet.onHost(["ip", "addr", "del", `${LATER}/32`, "dev", "lo"]);
    await bed.until(async () => !(await web.run(["nft", "list", "ruleset"])).includes(LATER));
    await assertPolicy("web");
  });

  test("has a VMM that can neither change its network nor send anything past its card", async () => {
    const [vmm] = bed.vmms();
    const [holder = 0] = networkProcesses(bed.dir);
    const tablesOf = (user: number): Promise<string> => {
      const joined = [
        `--user=/proc/${user}/ns/user`,
        `--net=/proc/${holder}/ns/net`,
        "--preserve-credentials",
      ];
      return internet.onHost([...becomeUser(APART), "nsenter", ...joined, "nft", "list", "tables"]);
    };
    assert.match(await tablesOf(holder), /table inet hearth\n/, "hearthd may");
    await assert.rejects(
      tablesOf(vmm?.pid ?? 0),
      /not permitted/,
      "root of the VMM's user namespace may not",
    );

    const web = await namespaceOf("web");
    const reach = async (address: string): Promise<string> =>
      web.run(["bash", "-c", `timeout 2 bash -c 'exec 3<>/dev/tcp/${address}/80' && echo open || true`]);
    const peers = [PEERS.private, PEERS.public, HOST];
    for (const address of peers) assert.equal(await reach(address), "", address);
    await using _open = await web.without("inet hearth");
    assert.equal(await reach(PEERS.private), "open\n", "without the rule");
  });

  test("has the same policy after a stop and a start, a suspend and a resume, and in a fork", async () => {
    await bed.ok(["stop", "web"]);
    assert.deepEqual(networkProcesses(bed.dir), [], "a VM that is stopped has no network");
    await bed.ok(["start", "web"]);
    await assertPolicy("web");
    await bed.ok(["fork", "web"]);
    await assertPolicy("web-1");
    await assertPolicy("web");
    await bed.ok(["suspend", "web"]);
    await assertPolicy("web");
    await bed.ok(["rm", "-f", "web-1"]);
  });

  test("starts warm, with its own MAC address and the policy", async () => {
    await bed.ok(["template", "build", ...SMALL, "debian"]);
    await bed.ok(["run", "-d", "--name", "warm", ...SMALL, "debian", "--", "sleep", "100000"]);
    assert.ok((await bed.vm("warm")).restoredFrom);
    await assertPolicy("warm");
    const macs = await Promise.all(
      ["web", "warm"].map((vm) => bed.sh(vm, "cat /sys/class/net/eth0/address")),
    );
    assert.equal(new Set(macs).size, 2);
    await bed.ok(["rm", "-f", "warm"]);
  });

  test("gets another policy and limit while it runs, and counts what each rule decides", async () => {
    await bed.ok(["network", "set", "web", "--deny-cidr", PEERS.public, "--allow-cidr", PEERS.private]);
    assert.match(await get("web", PEERS.public), /No route to host/);
    assert.match(await get("web", PEERS.private), /from/);
    const tested = await bed.hearth(["network", "test", "web", `${PEERS.public}:80`]);
    assert.match(tested.stdout, /^deny: rule 1, deny 198\.51\.100\.7\/32\n198\.51\.100\.7 port 80 does not/);
    await bed.ok(["network", "set", "web", "--network", "nat"]);
    await assertPolicy("web");
    const { counters } = JSON.parse(await bed.ok(["network", "policy", "web", "--json"])) as VmNetworkView;
    assert.ok(counters && counters.default.packets > 0 && counters.special.packets > 0);
    assert.match(await bed.ok(["network", "policy", "web", "--nft"]), /table inet hearth \{/);

    await bed.ok(["set", "web", "--net-limit", "bw=128K/s"]);
    const web = await namespaceOf("web");
    const limited = async (link: string): Promise<{ kind: string; overlimits: number }> =>
      JSON.parse(await web.run(["tc", "-s", "-j", "qdisc", "show", "dev", link]))[0];
    const echoed = `head -c 400000 /dev/zero >&3 & head -c 400000 <&3 | wc -c`;
    assert.equal(await bed.sh("web", `bash -c 'exec 3<>/dev/tcp/${PEERS.public}/7; ${echoed}'`), "400000\n");
    assert.ok((await limited("uplink")).overlimits > 0, "packets have waited");
    // What the peer echoes comes no faster than it was sent.
    assert.equal((await limited("tap0")).kind, "tbf");
    await bed.ok(["set", "web", "--net-limit", "none"]);
    assert.equal((await limited("uplink")).kind, "noqueue");
    const [stats] = JSON.parse(await bed.ok(["stats", "web", "--json"])) as VmStats[];
    assert.ok((stats?.network?.sentPackets ?? 0) > 0 && (stats?.network?.receivedBytes ?? 0) > 400_000);
  });

  test("is reached at the ports that it publishes, where they are published, and at no others", async () => {
    const ports = [
      "-p",
      "8080:80",
      "-p",
      `${HOST}:8081:80`,
      "-p",
      "0.0.0.0:5353:53/udp",
      "-p",
      "5354:53/udp",
    ];
    await bed.ok(["run", "-d", "--name", "server", ...SMALL, ...ports, "debian", "--", "sleep", "100000"]);
    const answer = [
      "use IO::Socket; use Socket;",
      "$t = IO::Socket::INET->new(Listen => 9, LocalPort => 80, ReuseAddr => 1) or die;",
      "$o = IO::Socket::INET->new(Listen => 9, LocalPort => 81, ReuseAddr => 1) or die;",
      '$u = IO::Socket::INET->new(Proto => "udp", LocalPort => 53) or die; $| = 1; print "ready\\n";',
      'if (fork) { while ($c = $t->accept) { <$c>; print $c "hello ", $c->peerhost, "\\n"; close $c } }',
      'while ($u->recv($d, 9)) { $u->send("hello " . $u->peerhost . "\\n") }',
    ].join(" ");
    await bed.sh("server", `cat > /tmp/server.pl << 'END'\n${answer}\nEND`);
    await bed.sh("server", "setsid nohup perl /tmp/server.pl > /tmp/server 2>&1 < /dev/null &");
    await bed.until(async () => (await bed.sh("server", "cat /tmp/server")) === "ready\n");
    const tcp = (address: string, port: number): string[] => [
      "bash",
      "-c",
      // The client speaks first: see docs/network.md about pasta of Debian 12.
      `timeout 5 bash -c "exec 2>&1; exec 3<>/dev/tcp/${address}/${port}; echo hi >&3; cat <&3" || true`,
    ];
    const udp = (address: string, port: number): string[] => [
      "bash",
      "-c",
      `exec 3<>/dev/udp/${address}/${port}; echo hi >&3; timeout 5 head -n 1 <&3 || true`,
    ];
    assert.equal(await internet.onHost(tcp("127.0.0.1", 8080)), "hello 192.0.0.1\n");
    assert.equal(await internet.onHost(udp("127.0.0.1", 5354)), "hello 192.0.0.1\n");
    assert.match(await internet.onHost(tcp(HOST, 8081)), /^hello /);
    assert.equal(await internet.outside(tcp(HOST, 8081)), "hello 203.0.113.1\n", "as it came");
    assert.equal(await internet.outside(udp(HOST, 5353)), "hello 203.0.113.1\n", "as it came");
    assert.doesNotMatch(await internet.outside(tcp(HOST, 8080)), /hello/, "for the host alone");
    assert.doesNotMatch(await internet.onHost(tcp("127.0.0.1", 8081)), /hello/, "at another address");
    for (const port of [80, 81]) assert.doesNotMatch(await internet.outside(tcp(HOST, port)), /hello/);
    await bed.ok(["network", "set", "server", "--network", "deny-all"]);
    assert.equal(await internet.onHost(tcp("127.0.0.1", 8080)), "hello 192.0.0.1\n");
    await bed.ok(["rm", "-f", "server"]);
    assert.doesNotMatch(await internet.onHost(tcp("127.0.0.1", 8080)), /hello/);
  });

  test("keeps its network when hearthd is killed, and leaves nothing when it is removed", async () => {
    const daemon = bed.daemon();
    assert.ok(daemon);
    signalProcess(daemon, "SIGKILL");
    await bed.until(() => bed.daemon() === undefined);
    await internet.startDaemon(bed);
    await assertPolicy("web");
    await bed.ok(["network", "set", "web", "--deny-cidr", PEERS.public]);
    assert.match(await get("web", PEERS.public), /No route to host/);
    const network = networkParts();
    assert.deepEqual(network.map(({ program }) => program).toSorted(), ["hearth-uplink", "pasta"]);
    await bed.ok(["rm", "-f", ...(await bed.vms()).map(({ name }) => name)]);
    assert.deepEqual(networkProcesses(bed.dir), []);
    for (const { program, ref } of network) assert.ok(!isAlive(ref), program);
    assert.equal(await hostState(), emptyHost);
  });

  /** Finds the processes of this bed's networks, while these are there. */
  function networkParts(): { program: string; ref: ProcessRef }[] {
    const holders = networkProcesses(bed.dir);
    const namespaces = new Set(holders.map((pid) => `/proc/${pid}/ns/net`));
    return listCommands().flatMap(({ pid, argv }) => {
      const isHolder = holders.includes(pid);
      const ref = findProcess(pid);
      if (ref === undefined || !(isHolder || argv.some((word) => namespaces.has(word)))) return [];
      return [{ program: isHolder ? "hearth-uplink" : (argv[0] ?? ""), ref }];
    });
  }

  test("loses its network when it was being made by a hearthd that is killed", async () => {
    await bed.ok(["create", "--no-start", "--name", "late", "--cold", ...SMALL, "debian"]);
    const starting = bed.hearth(["start", "late"]);
    await bed.until(() => networkProcesses(bed.dir).length > 0);
    const daemon = bed.daemon();
    if (daemon !== undefined) signalProcess(daemon, "SIGKILL");
    await starting;
    await bed.until(() => bed.daemon() === undefined);
    await internet.startDaemon(bed);
    await bed.vms();
    assert.deepEqual(networkProcesses(bed.dir), []);
    await bed.ok(["start", "late"]);
    await assertPolicy("late");
    await bed.ok(["rm", "-f", "late"]);
    assert.deepEqual(networkProcesses(bed.dir), []);
  });

  test("is refused where the policy could not be in force, with what to do", async () => {
    const refused = async (...flags: string[]): Promise<string> => {
      const { code, stderr } = await bed.hearth(["create", "--no-start", ...flags, "debian"]);
      assert.equal(code, 1);
      return stderr;
    };
    assert.match(await refused("--no-jail", ...SMALL), /nat takes a jail/);
    const named = ["--network", "deny-all", "--allow-domain", "*.example"];
    assert.match(await refused(...named), /domains[^]*--allow-cidr[^]*docs\/helper\.md/);
  });
});
