/**
 * VMs with a network of their own reach public addresses and nothing else. The paths on which their policy holds, packet
 * by packet, are in policy-probes.test.ts.
 */
import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { VmNetworkView, VmStats } from "#api/wire.ts";
import { signalProcess } from "#host/procfs.ts";
import { Bed } from "./bed.ts";
import { greeterClient, greeterScript, startGreeter } from "./greeter.ts";
import { commandsOf, typeIn } from "./doc-commands.ts";
import { HOST, PEERS, PrivateInternet } from "./private-internet.ts";
import { VmNamespace } from "./vm-namespace.ts";

const isRoot = process.geteuid?.() === 0;
const skip = isRoot ? false : "VMs of a hearthd that is not root have no network of their own";
const SMALL = ["--memory", "256M", "--network", "nat"];

describe("a VM with --network nat", { skip }, () => {
  const internet = new PrivateInternet();
  const bed = new Bed({ warm: true, apart: false });
  let emptyHost = "";

  before(async () => {
    await new Bed({ apart: false }).ok(["image", "build", "debian"]);
    await internet.start();
    emptyHost = await hostState();
    await internet.startDaemon(bed);
    await bed.ok(["run", "-d", "--name", "web", "--cold", ...SMALL, "debian", "--", "sleep", "100000"]);
  });
  after(async () => {
    // In order: a template that is being made has a network, too.
    await bed.hearth(["daemon", "stop"]);
    internet[Symbol.dispose]();
  });

  /** Returns what a web server says to the guest, or the error of the connection. */
  const get = async (vm: string, address: string): Promise<string> => {
    const request = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && tail -n 1 <&3";
    const script = `timeout 5 bash -c "exec 3<>/dev/tcp/${address}/80 && ${request}" 2>&1 || true`;
    return bed.sh(vm, script);
  };

  /** Checks what the policy allows and what it denies, with the address that the allowed server sees. */
  const assertPolicy = async (vm: string): Promise<void> => {
    assert.equal(await get(vm, PEERS.public), `from ${HOST} to ${PEERS.public}\n`);
    assert.equal(
      await bed.sh(vm, "getent ahostsv4 name.example | head -n 1 | cut -d ' ' -f 1"),
      `${PEERS.public}\n`,
    );
    for (const denied of [PEERS.private, PEERS.metadata, HOST, "198.18.0.1", "192.0.0.1"])
      assert.match(await get(vm, denied), /No route to host|timed out|^$/i, denied);
  };

  async function hostState(): Promise<string> {
    const commands = [
      ["ip", "-o", "link"],
      ["ip", "route"],
      ["nft", "list", "ruleset"],
      ["cat", "/proc/sys/net/ipv4/ip_forward"],
    ];
    return (await Promise.all(commands.map((argv) => internet.onHost(argv)))).join("\n");
  }

  test("the host reaches all that the VM must not", async () => {
    for (const address of [...Object.values(PEERS), HOST]) {
      const script = `fetch("http://${address}/").then((r) => r.text()).then((t) => process.stdout.write(t))`;
      assert.match(await internet.onHost([process.execPath, "-e", script]), new RegExp(`to ${address}\n$`));
    }
  });

  test("reaches public addresses and names after a boot, and no others", () => assertPolicy("web"));

  test("has nothing on the host while it is stopped, and its policy when it starts again", async () => {
    await bed.ok(["stop", "web"]);
    assert.equal(await hostState(), emptyHost);
    await bed.ok(["start", "web"]);
    await assertPolicy("web");
  });

  test("reaches what its own policy allows, also a private network, and nothing else", async () => {
    const allow = ["--allow-cidr", `${PEERS.private}:80`, "--deny-cidr", PEERS.public];
    const start = ["create", "--cold", "--memory", "256M"];
    await bed.ok([...start, "--name", "own", "--network", "nat", ...allow, "debian"]);
    assert.match(await get("own", PEERS.private), /from/);
    for (const denied of [PEERS.public, PEERS.metadata])
      assert.doesNotMatch(await get("own", denied), /from/);
    assert.match(
      await bed.ok(["show", "own"]),
      /policy +deny 198\.51\.100\.7\/32\npolicy +allow 10\.1\.2\.3\/32:80\/tcp/,
    );
    await bed.ok(["rm", "-f", "own"]);
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
  });

  const namespaceOf = async (vm: string): Promise<VmNamespace> =>
    new VmNamespace(internet, (await bed.vm(vm)).id);

  /** Opens a connection in the guest that lasts, and writes what comes to a file, and "ended" when it ends. */
  const connect = async (file: string, port: number): Promise<void> => {
    const talk = {
      7: "while echo hi >&3 && read -t 30 -r -u 3 line; do echo $line; sleep 0.1; done",
      19: "cat <&3",
    }[port];
    const script = `exec 3<>/dev/tcp/${PEERS.public}/${port}; ${talk}; echo ended`;
    await bed.sh("web", `setsid nohup bash -c '${script}' > ${file} 2>&1 < /dev/null &`);
    await linesBeyond(file, 0);
  };
  const linesIn = async (file: string): Promise<number> => Number(await bed.sh("web", `wc -l < ${file}`));
  const linesBeyond = (file: string, seen: number): Promise<void> =>
    bed.until(async () => (await linesIn(file)) > seen + 2);
  test("a TCP connection continues when its VM is forked, and has an end in the copy, where it is used", async () => {
    // It says something all the time, also when no echo comes: a copy that only listened would never hear.
    const talk = "while echo hi >&3; do read -t 1 -r -u 3 line && echo $line; sleep 0.1; done";
    const script = `trap "" PIPE; exec 3<>/dev/tcp/${PEERS.public}/7; ${talk}; echo ended`;
    await bed.sh("web", `setsid nohup bash -c '${script}' > /tmp/fork 2>&1 < /dev/null &`);
    await linesBeyond("/tmp/fork", 0);
    await bed.ok(["fork", "--name", "copy", "web"]);
    await linesBeyond("/tmp/fork", await linesIn("/tmp/fork"));
    await bed.until(async () => (await bed.sh("copy", "tail -n 1 /tmp/fork")) === "ended\n");
    await linesBeyond("/tmp/fork", await linesIn("/tmp/fork"));
    assert.equal(await bed.sh("web", "tail -n 1 /tmp/fork"), "hi\n");
    await bed.ok(["rm", "-f", "copy"]);
  });

  const policyOf = async (vm: string): Promise<VmNetworkView> =>
    JSON.parse(await bed.ok(["network", "policy", vm, "--json"])) as VmNetworkView;

  test("gets another policy while it runs, which cuts connections that it denies and no others", async () => {
    await connect("/tmp/echo", 7);
    await connect("/tmp/lines", 19);
    await bed.ok(["network", "set", "web", "--deny-cidr", "203.0.113.77"]);
    for (const file of ["/tmp/echo", "/tmp/lines"]) await linesBeyond(file, await linesIn(file));

    await bed.ok(["network", "set", "web", "--deny-cidr", PEERS.public]);
    await bed.until(async () => (await bed.sh("web", "tail -n 1 /tmp/echo")) === "ended\n");
    // The next packet of each of the two.
    await bed.until(async () => ((await policyOf("web")).counters?.rules[0]?.packets ?? 0) >= 2);
    const received = await linesIn("/tmp/lines");
    assert.match(await get("web", PEERS.public), /No route to host/);
    const tested = await bed.hearth(["network", "test", "web", `${PEERS.public}:80`]);
    assert.match(tested.stdout, /^deny: rule 1, deny 198\.51\.100\.7\/32\n198\.51\.100\.7 port 80 does not/);
    assert.equal(tested.code, 1);
    assert.equal(await linesIn("/tmp/lines"), received, "what the peer sends afterwards is denied, too");

    await bed.ok(["network", "set", "web", "--network", "nat"]);
    await assertPolicy("web");
    assert.match(
      await bed.ok(["network", "test", "web", "name.example:80"]),
      /^allow: the default of the policy\nname\.example \(198\.51\.100\.7\) port 80 accepts connections\n$/,
    );
    const { counters } = await policyOf("web");
    assert.ok(counters && counters.default.packets > 0 && counters.special.packets > 0);
    assert.ok(counters.resolver.packets > 0);
    assert.match(await bed.ok(["network", "policy", "web", "--nft"]), /table inet hearth \{/);
    await bed.ok(["set", "web", "--net-limit", "bw=128K/s"]);
    const limited = async (): Promise<{ kind: string; overlimits: number }> =>
      JSON.parse(
        await (await namespaceOf("web")).run(["tc", "-s", "-j", "qdisc", "show", "dev", "uplink"]),
      )[0];
    const echoed = `head -c 400000 /dev/zero >&3 & head -c 400000 <&3 | wc -c`;
    assert.equal(await bed.sh("web", `bash -c 'exec 3<>/dev/tcp/${PEERS.public}/7; ${echoed}'`), "400000\n");
    assert.ok((await limited()).overlimits > 0, "packets have waited");
    await bed.ok(["set", "web", "--net-limit", "none"]);
    assert.equal((await limited()).kind, "noqueue");
    const stats = JSON.parse(await bed.ok(["stats", "web", "--json"])) as VmStats[];
    assert.ok((stats[0]?.network?.sentPackets ?? 0) > 0);
  });

  /** Asks the greeter of another VM, or of an address. */
  const ask = (vm: string, host: string): Promise<string> => bed.sh(vm, greeterScript(host, 80));
  const found = async (vm: string, name: string): Promise<string> =>
    (await bed.sh(vm, `getent hosts ${name} || true`)).split(/\s/)[0] ?? "";
  const addressOf = async (vm: string): Promise<string> => {
    const shown = await (await namespaceOf(vm)).run(["ip", "-o", "addr", "show", "uplink"]);
    return /inet (198\.19\.[\d.]+)/.exec(shown)?.[1] ?? "";
  };

  test("reaches those on its private networks by name, whatever its policy, and others do not", async () => {
    const start = async (name: string, ...flags: string[]): Promise<void> => {
      await bed.ok(["run", "-d", "--name", name, ...SMALL, ...flags, "debian", "--", "sleep", "100000"]);
    };
    await start("db", "--join", "dev");
    await start("app", "--join", "dev", "--join", "other", "--network", "deny-all");
    await start("stranger", "--join", "other", "--allow-cidr", "198.18.0.0/15");
    await startGreeter(bed, "db");
    const [db, app] = [await addressOf("db"), await addressOf("app")];
    assert.equal(await found("app", "db.hearth"), db);
    assert.equal(await ask("app", "db.hearth"), `hello ${app}\n`);
    assert.equal(await found("db", "db.hearth"), "192.0.0.2", "itself");
    assert.match(await found("stranger", "app.hearth"), /^198\.19\./);
    assert.equal(await found("stranger", "db.hearth"), "");
    assert.match(await ask("stranger", db), /No route to host/);
    assert.match(await ask("warm", db), /No route to host/);
    assert.match(await bed.ok(["network", "ls"]), /^dev +.*\bdb\b.*\nother +.*\bstranger\b/m);
    const { address = "" } = await bed.vm("db");
    assert.equal(await internet.onHost(greeterClient(address, 80)), "hello 198.18.0.1\n");
    assert.match(await bed.ok(["network", "test", "app", "db.hearth:80"]), /^allow: a private network/);

    const asked = [
      `exec 3< <("${process.execPath}" "${bed.program}" network dns --json); read -r -u 3 _;`,
      `"${process.execPath}" -p 'const r = new dns.promises.Resolver(); r.setServers(["127.0.0.1:5335"]);`,
      `r.resolve4("db.hearth").then(console.log)'; kill $!`,
    ].join(" ");
    const answered = await internet.onHost(["bash", "-c", asked], { env: bed.env });
    assert.match(answered, new RegExp(`'${address}'`), "for programs of the host");
  });

  test("follows rules about its private networks, VMs on them and the host", async () => {
    const [db, app] = [await addressOf("db"), await addressOf("app")];
    await bed.ok(["network", "set", "app", "--network", "deny-all", "--deny-cidr", `${db}:80`]);
    assert.match(await ask("app", "db.hearth"), /No route to host/, "a rule decides first");
    await bed.ok(["network", "set", "app", "--network", "deny-all", "--allow-domain", "name.example"]);
    assert.equal(await ask("app", "db.hearth"), `hello ${app}\n`);
    assert.equal(await found("app", "name.example"), PEERS.public);

    const office = join(bed.dir, "office.toml");
    const rules = [
      '{ allow = "vm:db", ports = [80] }',
      '{ deny = "network:dev" }',
      '{ allow = "host", ports = [80] }',
    ];
    writeFileSync(office, `default = "deny"\nrules = [${rules.join(", ")}]\n`);
    await bed.ok(["network", "set", "app", "--policy", office]);
    assert.match(await ask("app", db), /No route to host/, "before it has asked for the name");
    assert.equal(await ask("app", "db.hearth"), `hello ${app}\n`);
    assert.match(await bed.sh("app", greeterScript("db.hearth", 81)), /No route to host/, "another port");
    assert.match(await get("app", "198.18.0.1"), /to 198\.18\.0\.1$/m, "the host");
    assert.match(await bed.ok(["network", "test", "app", "198.18.0.1:80"]), /^allow: rule 3, allow host:80/);
    await bed.ok(["network", "set", "app", "--network", "deny-all"]);
    assert.match(await get("app", "198.18.0.1"), /No route to host/);
  });

  test("loses sight of a VM on its private network that is suspended or removed, and of no other", async () => {
    const app = await addressOf("app");
    await bed.ok(["fork", "db"]);
    assert.equal(await found("app", "db-1.hearth"), "", "a copy is on no private network");
    await bed.ok(["suspend", "db"]);
    assert.equal(await found("app", "db.hearth"), "", "while it is suspended");
    await bed.ok(["resume", "db"]);
    assert.equal(await ask("app", "db.hearth"), `hello ${app}\n`);
    const daemon = bed.daemon();
    assert.ok(daemon);
    signalProcess(daemon, "SIGKILL");
    await bed.until(() => bed.daemon() === undefined);
    await internet.startDaemon(bed);
    assert.equal(await ask("app", "db.hearth"), `hello ${app}\n`);
    await bed.ok(["rm", "-f", "db", "db-1", "stranger"]);
    assert.equal(await found("app", "db.hearth"), "");
    await bed.ok(["rm", "-f", "app"]);
  });

  test("is reached at the ports that it publishes, where they are published, and at no others", async () => {
    const ports = ["-p", "8080:80", "-p", `${HOST}:8081:80`, "-p", "0.0.0.0:5353:53/udp"];
    await bed.ok(["run", "-d", "--name", "server", ...SMALL, ...ports, "debian", "--", "sleep", "100000"]);
    await startGreeter(bed, "server");
    assert.equal(await internet.onHost(greeterClient("127.0.0.1", 8080)), "hello 198.18.0.1\n");
    assert.match(await internet.onHost(greeterClient(HOST, 8081)), /^hello 203\.0\.113\.2\n/);
    assert.equal(await internet.outside(greeterClient(HOST, 8081)), "hello 203.0.113.1\n", "as it came");

    const listed = await bed.ok(["ports", "server"]);
    assert.match(listed, /^80 +tcp +0\.0\.0\.0 +perl +\d+ +127\.0\.0\.1:8080, 203\.0\.113\.2:8081$/m);
    assert.match(listed, /^81 +tcp +0\.0\.0\.0 +perl +\d+ +port-forward$/m);

    assert.doesNotMatch(await internet.outside(greeterClient(HOST, 8080)), /hello/, "for the host alone");
    const [, address = ""] =
      /inet (198\.18\.[\d.]+)/.exec(await (await namespaceOf("server")).run(["ip", "addr"])) ?? [];
    assert.equal(await internet.onHost(greeterClient(address, 80)), "hello 198.18.0.1\n");
    await internet.outside(["ip", "route", "add", "198.18.0.0/16", "via", HOST]);
    assert.doesNotMatch(await internet.outside(greeterClient(address, 80)), /hello/, "past the host's ports");
    const rules = await internet.onHost(["nft", "list", "table", "inet", "hearth"]);
    await internet.onHost(["nft", "flush", "chain", "inet", "hearth", "forward"]);
    assert.match(
      await internet.outside(greeterClient(address, 80)),
      /hello/,
      "without the host's rule it is reached",
    );
    await internet.onHost(["nft", "-f", "-"], { stdin: `delete table inet hearth\n${rules}` });

    for (const port of ["8080:80", "0.0.0.0:8081:8081"]) {
      const other = await bed.hearth(["create", "--no-start", ...SMALL, "-p", port, "debian"]);
      assert.equal(other.code, 1);
      assert.match(other.stderr, /server publishes/);
    }
    const taken = await bed.hearth(["create", "--no-start", ...SMALL, "-p", "80:80", "debian"]);
    assert.match(taken.stderr, /a program of the host has port 80/);
    await bed.ok(["fork", "server"]);
    const shown = await bed.ok(["show", "server-1"]);
    assert.match(shown, /network +nat/);
    assert.doesNotMatch(shown, /published/);
    assert.match(await bed.ok(["show", "server"]), /published +127\.0\.0\.1:8080:80\n/);
    await bed.ok(["network", "set", "server", "--network", "deny-all"]);
    assert.equal(await internet.onHost(greeterClient("127.0.0.1", 8080)), "hello 198.18.0.1\n");
    await bed.ok(["rm", "-f", "server-1"]);
    const { id } = await bed.vm("server");
    assert.match(await internet.onHost(["nft", "list", "ruleset"]), new RegExp(`hearth_${id.slice(3)}`));
  });

  test("has a VMM that cannot send anything itself, past its card", async () => {
    const web = await namespaceOf("web");
    const reach = async (address: string): Promise<string> =>
      web.run(["bash", "-c", `timeout 2 bash -c 'exec 3<>/dev/tcp/${address}/80' && echo open || true`]);
    const peers = [PEERS.private, PEERS.public, "198.18.0.1"];
    for (const address of peers) assert.equal(await reach(address), "", address);
    {
      await using _open = await web.without("inet hearth");
      assert.equal(await reach(PEERS.private), "open\n", "without the rule");
    }
    await assertPolicy("web");
  });

  test("sends no IPv6 from an address that it gave itself", async () => {
    const web = await namespaceOf("web");
    const link = JSON.parse(await web.run(["ip", "-j", "link", "show", "tap0"])) as [{ address: string }];
    const neighbour = `fd00::1 lladdr ${link[0].address} dev eth0`;
    await bed.sh("web", `ip -6 addr add fd00::2/64 dev eth0 nodad && ip -6 neigh replace ${neighbour}`);
    const send = (): Promise<string> => bed.sh("web", "bash -c 'echo > /dev/udp/fd00::1/9'");
    await using came = await web.count("tap0", "ip6 daddr fd00::1 udp dport 9");
    await send();
    assert.equal(await came.packets(), 0);
    {
      await using _open = await web.without("netdev hearth");
      await send();
      assert.equal(await came.packets(), 1, "without the rule it comes");
    }
    await bed.sh("web", "ip -6 addr flush dev eth0");
  });

  test("keeps its network when hearthd is killed, and leaves nothing when it is removed", async () => {
    const daemon = bed.daemon();
    assert.ok(daemon);
    signalProcess(daemon, "SIGKILL");
    await bed.until(() => bed.daemon() === undefined);
    await internet.startDaemon(bed);
    await assertPolicy("web");
    const vms = await bed.vms();
    await bed.ok(["rm", "-f", ...vms.map(({ name }) => name)]);
    assert.equal(await hostState(), emptyHost);
    for (const { id } of vms) assert.ok(!existsSync(`/run/hearth/netns/${id}`));
  });

  test("is what docs/network.md says: its commands work, one after the other", async () => {
    const commands = commandsOf("docs/network.md");
    assert.ok(commands.length >= 5, "the commands were found");
    const shown: string[] = [];
    for (const line of commands) {
      const { code, stdout, stderr } = await typeIn(bed, line);
      assert.equal(code, 0, `${line}\n${stderr}`);
      if (line.includes("getent")) assert.match(stdout, /^198\.(?:51\.100\.7|19\.\d+\.\d+) /);
      if (line.includes(" show ")) shown.push(stdout);
    }
    assert.match(shown[0] ?? "", /policy +allow 10\.20\.0\.0\/16:5432\/tcp/);
    assert.match(shown[1] ?? "", /published +127\.0\.0\.1:5353:53\/udp/);
  });

  test("is refused where it would not be isolated, with what to do", async () => {
    const { code, stderr } = await bed.hearth(["create", "--no-start", "--no-jail", ...SMALL, "debian"]);
    assert.equal(code, 1);
    assert.match(stderr, /nat takes a jail[^]*--network none/);
    const other = ["create", "--no-start", "--memory", "256M", "--network", "none"];
    const refused = await bed.hearth([...other, "--allow-cidr", "10.0.0.0/8", "debian"]);
    assert.match(refused.stderr, /policy: the network none has none/);
  });
});
