/**
 * VMs whose policy has domains reach the addresses of their names, and nothing else. The paths on which that holds, packet
 * by packet, are in policy-probes.test.ts.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { after, before, describe, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { signalProcess } from "#host/procfs.ts";
import { Bed } from "./bed.ts";
import { PEERS, PrivateInternet } from "./private-internet.ts";

const isRoot = process.geteuid?.() === 0;
const skip = isRoot ? false : "VMs of a hearthd that is not root have no network of their own";
const DOMAINS = ["--allow-domain", "*.example:80", "--allow-domain", "one.test"];
const CLOSED = ["--network", "deny-all"];

/** Returns the first message of a TLS client. */
async function clientHello(servername: string): Promise<Buffer> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = connectTls({ port: (server.address() as AddressInfo).port, host: "127.0.0.1", servername });
  client.on("error", () => {}); // Nobody answers it.
  const [socket] = (await once(server, "connection")) as [Socket];
  const [first] = (await once(socket, "data")) as [Buffer];
  client.destroy();
  socket.destroy();
  server.close();
  return first;
}

describe("a VM with --allow-domain", { skip }, () => {
  const internet = new PrivateInternet();
  const bed = new Bed({ warm: true, apart: false });

  before(async () => {
    await new Bed({ apart: false }).ok(["image", "build", "debian"]);
    await internet.start();
    await internet.startDaemon(bed);
    const start = ["run", "-d", "--name", "vm", "--memory", "256M", ...CLOSED, ...DOMAINS];
    await bed.ok([...start, "debian", "--", "sleep", "100000"]);
  });
  after(async () => {
    await bed.hearth(["daemon", "stop"]);
    internet[Symbol.dispose]();
  });

  /** Returns the first address that the guest's resolver has for a name. */
  const find = async (vm: string, name: string): Promise<string> =>
    (await bed.sh(vm, `getent ahostsv4 ${name} | head -n 1 || true`)).split(" ")[0] ?? "";
  /** Tells whether the guest can connect to a port of the public peer, by its address. */
  const isOpen = async (vm: string, port: number): Promise<boolean> => {
    const connect = `timeout 5 bash -c 'exec 3<>/dev/tcp/${PEERS.public}/${port}'`;
    return (await bed.sh(vm, `${connect} && echo open || true`)).endsWith("open\n");
  };
  const set = (...flags: string[]): Promise<string> => bed.ok(["network", "set", "vm", ...CLOSED, ...flags]);

  /** Checks a VM that has not asked for names yet. */
  const assertNames = async (vm: string): Promise<void> => {
    for (const name of ["other.test", "example", "a.one.test", "private.example"])
      assert.equal(await find(vm, name), "", name);
    assert.equal(await isOpen(vm, 80), false, "no allowed name was asked for");
    assert.equal(await find(vm, "web.example"), PEERS.public);
    assert.equal(await isOpen(vm, 80), true);
    assert.equal(await isOpen(vm, 7), false, "another port");
    assert.equal(await find(vm, "ONE.test"), PEERS.public);
    assert.equal(await isOpen(vm, 7), true);
  };

  test("reaches the names that its policy allows, and no others", async () => {
    await assertNames("vm");
    assert.match(
      await bed.ok(["network", "test", "vm", "web.example:80"]),
      /^allow: rule 1, allow domain:\*\.example:80\/tcp\n/,
    );
    assert.match(await bed.ok(["network", "policy", "vm"]), /allow names of the domains below/);
  });

  test("keeps what it has learned in a new policy that has the domain, and loses it in one that has not", async () => {
    await set(...DOMAINS, "--allow-cidr", PEERS.private);
    assert.equal(await isOpen("vm", 7), true);
    await set("--allow-domain", "*.example:80");
    assert.equal(await isOpen("vm", 7), false);
    assert.equal(await isOpen("vm", 80), true);
    await set();
    assert.equal(await isOpen("vm", 80), false);
    await set(...DOMAINS);
    await assertNames("vm");
  });

  test("counts the connections whose names it checks", async () => {
    /** Sends bytes to the public peer, and returns the beginning of its answer in hexadecimal. */
    const answerTo = async (bytes: Buffer, port: number): Promise<string> => {
      const send = `echo ${bytes.toString("base64")} | base64 -d >&3; head -c 12 <&3 | od -An -v -tx1`;
      const script = `timeout 5 bash -c 'exec 3<>/dev/tcp/${PEERS.public}/${port}; ${send}' 2>&1 || true`;
      return (await bed.sh("vm", script)).replaceAll(/\s/g, "");
    };
    const request = (host: string): Buffer => Buffer.from(`GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    const ok = Buffer.from("HTTP/1.1 200").toString("hex");
    const refused = Buffer.from("HTTP/1.1 403").toString("hex");
    const hello = await clientHello("web.example");

    await set("--allow-domain", "*.example/tls", "--allow-domain", "web.example/http");
    assert.equal(await find("vm", "web.example"), PEERS.public);
    assert.equal(await answerTo(hello, 443), hello.toString("hex", 0, 12));
    assert.equal(await answerTo(request("web.example"), 80), ok);
    assert.equal(await answerTo(request("web.example:443"), 80), refused);
    const shown = await bed.ok(["network", "policy", "vm"]);
    assert.match(shown, /allow domain:\*\.example:443\/tls +[1-9]/);
    assert.match(shown, /allow domain:web\.example:80\/http +[1-9]/);
    await set(...DOMAINS);
  });

  test("finds names while hearthd is dead, and while the policy changes", async () => {
    const daemon = bed.daemon();
    assert.ok(daemon);
    const ask = "getent ahostsv4 web.example > /dev/null && echo found || echo failed";
    await bed.sh(
      "vm",
      `setsid nohup sh -c 'while sleep 0.1; do ${ask}; done' > /tmp/found 2>&1 < /dev/null &`,
    );
    const asked = async (): Promise<string[]> => (await bed.sh("vm", "cat /tmp/found")).trim().split("\n");
    await bed.until(async () => (await asked()).length > 2);
    signalProcess(daemon, "SIGKILL");
    await internet.startDaemon(bed);
    assert.ok((await asked()).every((line) => line === "found"));
    await set(...DOMAINS, "--deny-cidr", PEERS.private);
    const seen = (await asked()).length;
    await bed.until(async () => (await asked()).length > seen + 2);
    assert.ok(
      (await asked()).every((line) => line === "found"),
      "nor while the policy changes",
    );
    assert.equal(await isOpen("vm", 80), true);
    await bed.ok(["rm", "-f", "vm"]);
  });
});
