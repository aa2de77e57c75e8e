/** VMs reach public IPv6 addresses and nothing else of IPv6, however they were started. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { signalProcess } from "#host/procfs.ts";
import { DATAGRAM, discovery, extension, ipv6Frame, sendProgram } from "#testing/ipv6-frame.ts";
import type { Frame } from "#testing/ipv6-frame.ts";
import { Bed } from "./bed.ts";
import { HOST6, PEERS, PEERS6, PrivateInternet, ROUTER6 } from "./private-internet.ts";
import { VmNamespace } from "./vm-namespace.ts";

const isRoot = process.geteuid?.() === 0;
const skip = isRoot ? false : "VMs of a hearthd that is not root have no network of their own";
const SMALL = ["--memory", "256M", "--network", "nat"];
/** The addresses of every guest and its gateway. */
const GUEST6 = "fd59:6db4:8e91::2";
const GATEWAY6 = "fd59:6db4:8e91::1";
const GATEWAY_MAC = "02:00:00:00:00:01";
/** Settings of the host that the first VM with a network changes. */
const SETTINGS = [
  "all/forwarding",
  "default/forwarding",
  "default/accept_ra",
  "wan/forwarding",
  "wan/accept_ra",
];

describe("a VM with --network nat on a host with IPv6", { skip }, () => {
  const internet = new PrivateInternet();
  const bed = new Bed({ warm: true, apart: false });
  let emptyHost = "";

  before(async () => {
    await new Bed({ apart: false }).ok(["image", "build", "debian"]);
    await internet.start({ ipv6: true });
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
      ["ip", "-6", "route"],
      ["ip", "-6", "neigh", "show", "nud", "permanent"],
      ["nft", "list", "ruleset"],
      ["sysctl", ...SETTINGS.map((setting) => `net/ipv6/conf/${setting}`)],
    ];
    return (await Promise.all(commands.map((argv) => internet.onHost(argv)))).join("\n");
  }

  /** Returns what a web server says to the guest, or the error of the connection. */
  const get = async (vm: string, address: string): Promise<string> => {
    const request = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && tail -n 1 <&3";
    return bed.sh(vm, `timeout 5 bash -c "exec 3<>/dev/tcp/${address}/80 && ${request}" 2>&1 || true`);
  };
  const find = async (vm: string, name: string): Promise<string> =>
    (await bed.sh(vm, `getent ahostsv6 ${name} | head -n 1 || true`)).split(" ")[0] ?? "";
  const isOpen = async (vm: string, port: number): Promise<boolean> => {
    const connect = `timeout 5 bash -c 'exec 3<>/dev/tcp/${PEERS6.public}/${port}'`;
    return (await bed.sh(vm, `${connect} 2> /dev/null && echo open || true`)).endsWith("open\n");
  };
  const namespaceOf = async (vm: string): Promise<VmNamespace> =>
    new VmNamespace(internet, (await bed.vm(vm)).id);
  const addressOf = async (vm: string): Promise<string> => {
    const shown = await (await namespaceOf(vm)).run(["ip", "-6", "addr", "show", "dev", "uplink"]);
    return /inet6 (fd59:\S+)\/128/.exec(shown)?.[1] ?? "";
  };

  /** Checks what the policy allows and what it denies, with the address that the allowed server sees. */
  const assertPolicy = async (vm: string): Promise<void> => {
    assert.equal(await get(vm, PEERS6.public), `from ${HOST6} to ${PEERS6.public}\n`);
    assert.match(await get(vm, PEERS.public), /^from/);
    assert.equal(await find(vm, "name.example"), PEERS6.public);
    for (const denied of [PEERS6.private, PEERS6.metadata, HOST6, GATEWAY6, await addressOf(vm)])
      assert.match(await get(vm, denied), /Permission denied/, denied);
  };

  test("the host reaches all that the VM must not", async () => {
    for (const address of [...Object.values(PEERS6), HOST6]) {
      const script = `fetch("http://[${address}]/").then((r) => r.text()).then((t) => process.stdout.write(t))`;
      assert.match(await internet.onHost([process.execPath, "-e", script]), new RegExp(`to ${address}\n$`));
    }
  });

  test("reaches public IPv6 addresses after a boot, and no others", () => assertPolicy("web"));

  test("takes IPv4 first for a name with both kinds of addresses", async () => {
    assert.match(await bed.sh("web", "getent ahosts name.example | head -n 1"), /^198\.51\.100\.7 /);
  });

  test("gets no frame through with another address than its own, or with headers that hide what it is", async () => {
    const mac = (await bed.sh("web", "cat /sys/class/net/eth0/address")).trim();
    const web = await namespaceOf("web");
    const plain: Frame = {
      to: GATEWAY_MAC,
      from: mac,
      source: GUEST6,
      target: PEERS6.public,
      hopLimit: 77,
      payload: DATAGRAM,
    };
    const look: Frame = { ...plain, target: GATEWAY6, hopLimit: 255, payload: discovery(135, GATEWAY6) };
    const tell = (type: number, source: string): Frame => ({
      ...look,
      source,
      payload: discovery(type, GUEST6),
    });
    await using came = await web.count("tap0", "ip6 hoplimit { 77, 255 }");
    const comes = async (frame: Frame): Promise<boolean> => {
      const earlier = await came.packets();
      await bed.sh("web", `perl -e '${sendProgram(ipv6Frame(frame))}' $(cat /sys/class/net/eth0/ifindex)`);
      return (await came.packets()) > earlier;
    };
    assert.ok(await comes(plain));
    assert.ok(await comes(look), "the gateway is looked for");
    const hostile: Readonly<Record<string, Frame>> = {
      "another MAC address": { ...plain, from: "02:00:00:00:00:99" },
      "a public address": { ...plain, source: "2001:db8::99" },
      "a neighbour's address": { ...plain, source: "fd59:6db4:8e91::3" },
      "the gateway's address": { ...plain, source: GATEWAY6 },
      "a link-local address": { ...plain, source: "fe80::2" },
      "no address": { ...plain, source: "::" },
      "an IPv4-mapped address": { ...plain, source: "::ffff:c000:2" },
      "hop-by-hop options": { ...plain, extensions: [extension(0)] },
      "a routing header": { ...plain, extensions: [extension(43)] },
      "destination options": { ...plain, extensions: [extension(60)] },
      "a search from a link-local address": { ...look, source: "fe80::2" },
      "a search from another address": { ...look, source: "2001:db8::99" },
      "a search that was forwarded": { ...look, hopLimit: 77 },
      "a search from no address": { ...look, source: "::" },
      "a router solicitation": tell(133, "fe80::2"),
      "a router advertisement": tell(134, "fe80::2"),
      "a neighbour advertisement": tell(136, GUEST6),
      "a redirect": tell(137, "fe80::2"),
    };
    for (const [what, frame] of Object.entries(hostile)) assert.equal(await comes(frame), false, what);
    assert.ok(await comes(plain), "the card works as before");
    // A fragment that is the whole packet, which the kernel does not put together (RFC 6946).
    const fragment = { header: 44, bytes: [0, 0, 0, 0, 0, 0, 7] };
    assert.ok(await comes({ ...plain, extensions: [fragment] }));
    assert.equal(
      await comes({ ...plain, extensions: [fragment, extension(60)] }),
      false,
      "options behind it",
    );
    await assertPolicy("web");
  });

  test("has the same policy after a stop and a start, a suspend and a resume, and in a fork", async () => {
    await bed.ok(["stop", "web"]);
    assert.equal(await hostState(), emptyHost, "a VM that is stopped has nothing on the host");
    await bed.ok(["start", "web"]);
    await assertPolicy("web");
    await bed.ok(["fork", "web"]);
    await assertPolicy("web-1");
    await assertPolicy("web");
    await bed.ok(["suspend", "web"]);
    await assertPolicy("web");
    await bed.ok(["rm", "-f", "web-1"]);
  });

  test("starts warm with IPv6, and without it if the host has none any more", async () => {
    await bed.ok(["template", "build", ...SMALL, "debian"]);
    const run = ["run", "-d", ...SMALL, "--name"];
    await bed.ok([...run, "warm", "debian", "--", "sleep", "100000"]);
    assert.ok((await bed.vm("warm")).restoredFrom);
    await assertPolicy("warm");
    await internet.onHost(["ip", "-6", "route", "del", "default"]);
    try {
      assert.match(await get("warm", PEERS6.public), /Network is unreachable/, "also a VM that had IPv6");
      await bed.ok([...run, "later", "debian", "--", "sleep", "100000"]);
      assert.ok((await bed.vm("later")).restoredFrom);
      assert.match(await get("later", PEERS6.public), /Network is unreachable/);
      assert.equal(await bed.sh("later", "ip -6 addr show scope global"), "");
      assert.match(await get("later", PEERS.public), /^from/);
      // What the guest gives itself is answered, too.
      await bed.sh(
        "later",
        `ip addr add ${GUEST6}/126 dev eth0 nodad && ip route add default via ${GATEWAY6}`,
      );
      assert.match(await get("later", PEERS6.public), /Network is unreachable/, "at once");
    } finally {
      await internet.onHost(["ip", "-6", "route", "add", "default", "via", ROUTER6]);
    }
    await bed.ok(["rm", "-f", "warm", "later"]);
  });

  test("follows the rules of its policy, and has no IPv6 if they deny IPv4 networks alone", async () => {
    const set = (...flags: string[]): Promise<string> => bed.ok(["network", "set", "web", ...flags]);
    await set("--allow-cidr", `[${PEERS6.private}]:80`, "--deny-cidr", PEERS6.public);
    assert.match(await get("web", PEERS6.private), /^from/);
    for (const denied of [PEERS6.public, PEERS6.metadata])
      assert.match(await get("web", denied), /Permission denied/);
    const tested = await bed.ok(["network", "test", "web", `[${PEERS6.private}]:80`]);
    assert.match(tested, /^allow: rule 2, allow \[fd00:1::3\]\/128:80\/tcp\nfd00:1::3 port 80 accepts/);

    await set("--deny-cidr", "203.0.113.77");
    assert.match(await get("web", PEERS.public), /^from/);
    assert.match(await get("web", PEERS6.public), /Permission denied/);
    const denied = await bed.hearth(["network", "test", "web", `[${PEERS6.public}]:80`]);
    assert.match(
      denied.stdout,
      /^deny: IPv6, since the policy denies IPv4 networks and names none of IPv6\n/,
    );
    assert.match(await bed.ok(["network", "policy", "web"]), /special networks, and IPv6 +[1-9]/);

    await set("--network", "deny-all", "--allow-cidr", "2001:db8::/32");
    assert.match(await get("web", PEERS6.public), /^from/);
    assert.doesNotMatch(await get("web", PEERS.public), /^from/);
    await set("--network", "allow-all");
    assert.match(await get("web", PEERS6.metadata), /^from/);
    assert.match(await get("web", HOST6), /Permission denied/);
    await set("--network", "nat");
    await assertPolicy("web");
  });

  test("is reached at the ports that it publishes on IPv6 addresses, and at no others", async () => {
    const ports = ["-p", `[${HOST6}]:8081:80`, "-p", "[::]:8082:80"];
    await bed.ok(["run", "-d", "--name", "server", ...SMALL, ...ports, "debian", "--", "sleep", "100000"]);
    const answer = [
      "use Socket; socket(L, AF_INET6, SOCK_STREAM, 0); bind(L, pack_sockaddr_in6(80, Socket::IN6ADDR_ANY)) or die;",
      'listen(L, 9); $| = 1; print "ready\\n"; while ($p = accept(C, L)) {',
      '($n, $a) = unpack_sockaddr_in6($p); syswrite(C, "hello " . Socket::inet_ntop(AF_INET6, $a) . "\\n"); close C }',
    ].join(" ");
    await bed.sh("server", `setsid nohup perl -e '${answer}' > /tmp/server 2>&1 < /dev/null &`);
    await bed.until(async () => (await bed.sh("server", "cat /tmp/server")) === "ready\n");
    const client = (address: string, port: number): string[] => [
      "bash",
      "-c",
      `timeout 5 bash -c "exec 2>&1; cat < /dev/tcp/${address}/${port}" || true`,
    ];
    for (const port of [8081, 8082]) {
      assert.equal(await internet.outside(client(HOST6, port)), `hello ${ROUTER6}\n`, "as it came");
      assert.equal(await internet.onHost(client(HOST6, port)), `hello ${HOST6}\n`);
    }
    assert.doesNotMatch(await internet.outside(client(HOST6, 8083)), /hello/, "what is not published");
    const address = await addressOf("server");
    await internet.outside(["ip", "route", "add", "fd59:6db4:8e91:1::/64", "via", HOST6]);
    assert.doesNotMatch(await internet.outside(client(address, 80)), /hello/, "past the host's ports");
    for (const port of ["[::]:8081:1", `[${HOST6}]:8082:1`]) {
      const other = await bed.hearth(["create", "--no-start", ...SMALL, "-p", port, "debian"]);
      assert.match(other.stderr, /server publishes/);
    }
    const loopback = await bed.hearth(["create", "--no-start", ...SMALL, "-p", "[::1]:8083:80", "debian"]);
    assert.match(loopback.stderr, /cannot be published on ::1[^]*127\.0\.0\.1/);

    const seeker = ["create", "--name", "seeker", "--cold", "--memory", "256M", "--network", "allow-all"];
    await bed.ok([...seeker, "debian"]);
    await using reached = await (await namespaceOf("server")).count("uplink", `ip6 daddr ${address}`);
    assert.match(await get("seeker", address), /Permission denied/, "another VM");
    assert.equal(await reached.packets(), 0);
    const rules = await internet.onHost(["nft", "list", "table", "inet", "hearth"]);
    await internet.onHost(["nft", "flush", "chain", "inet", "hearth", "forward"]);
    assert.match(await get("seeker", address), /Permission denied/, "its namespace denies it, too");
    {
      await using _open = await (await namespaceOf("seeker")).without("inet hearth");
      await get("seeker", address);
      assert.ok((await reached.packets()) > 0, "without the rules of both it comes");
    }
    await internet.onHost(["nft", "-f", "-"], { stdin: `delete table inet hearth\n${rules}` });
    await bed.ok(["rm", "-f", "seeker"]);
  });

  test("reaches the IPv6 addresses of names that its policy allows, also where they are checked", async () => {
    const set = (...flags: string[]): Promise<string> =>
      bed.ok(["network", "set", "web", "--network", "deny-all", ...flags]);
    await set("--allow-domain", "*.example:80");
    assert.equal(await isOpen("web", 80), false, "no allowed name was asked for");
    for (const name of ["other.test", "private.example"]) assert.equal(await find("web", name), "", name);
    assert.equal(await find("web", "web.example"), PEERS6.public);
    assert.equal(await isOpen("web", 80), true);
    assert.equal(await isOpen("web", 7), false, "another port");
    await set("--allow-domain", "web.example/http");
    assert.equal(await find("web", "web.example"), PEERS6.public);
    const status = async (host: string): Promise<string> => {
      const request = `printf 'GET / HTTP/1.1\\r\\nHost: ${host}\\r\\n\\r\\n' >&3; head -c 12 <&3`;
      return bed.sh(
        "web",
        `timeout 5 bash -c "exec 3<>/dev/tcp/${PEERS6.public}/80; ${request}" 2>&1 || true`,
      );
    };
    assert.equal(await status("web.example"), "HTTP/1.1 200");
    assert.equal(await status("other.test"), "HTTP/1.1 403");
    await set("--network", "nat");
  });

  test("has a VMM that cannot send anything itself over IPv6, past its card", async () => {
    const web = await namespaceOf("web");
    const reach = (): Promise<string> => {
      const connect = `timeout 2 bash -c 'exec 3<>/dev/tcp/${PEERS6.public}/80' 2> /dev/null`;
      return web.run(["bash", "-c", `${connect} && echo open || true`]);
    };
    assert.equal(await reach(), "");
    {
      await using _open = await web.without("inet hearth");
      assert.equal(await reach(), "open\n", "without the rule");
    }
    await assertPolicy("web");
  });

  test("keeps IPv6 when hearthd is killed, and leaves nothing when it is removed", async () => {
    const daemon = bed.daemon();
    assert.ok(daemon);
    await bed.ok(["network", "set", "web", "--network", "nat"]);
    signalProcess(daemon, "SIGKILL");
    await bed.until(() => bed.daemon() === undefined);
    await internet.startDaemon(bed);
    await assertPolicy("web");
    await bed.ok(["rm", "-f", ...(await bed.vms()).map(({ name }) => name)]);
    assert.equal(await hostState(), emptyHost);
  });
});
