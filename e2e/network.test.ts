/** Tests what a guest reaches with each kind of network. The peer is a server of this test, on the host's loopback. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo, Server } from "node:net";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { Bed } from "./bed.ts";

const bed = new Bed();
let server: Server;

before(async () => {
  server = createServer((socket) => socket.on("error", () => {}).end("hello from the host\n"));
  await once(server.listen(0, "127.0.0.1"), "listening");
  await bed.ok(["image", "build", "debian"]);
  await Promise.all([
    bed.ok(["create", "--name", "open", "--network", "user", "debian"]),
    bed.ok(["create", "--name", "shut", "--network", "none", "debian"]),
  ]);
});

after(() => void server.close());

/** TCP to the host, by bash alone: the image brings no tools for it. */
function probe(): string[] {
  const { port } = server.address() as AddressInfo;
  return ["bash", "-c", `exec 3<>/dev/tcp/10.0.2.2/${port} && cat <&3`];
}

test("with --network user TCP goes out; the same probe fails with --network none", async () => {
  assert.equal(await bed.ok(["exec", "open", "--", ...probe()]), "hello from the host\n");
  const shut = await bed.hearth(["exec", "shut", "--", ...probe()]);
  assert.equal(shut.code, 1);
  assert.match(shut.stderr, /unreachable/i);
});

test("with --network none the guest has a loopback and no card", async () => {
  assert.equal(await bed.sh("shut", "ls /sys/class/net"), "lo\n");
  assert.equal(await bed.sh("shut", "cat /sys/class/net/lo/flags"), "0x9\n", "it is up");
});

test("with --network user the guest has its address and a name server", async () => {
  assert.equal(await bed.sh("open", "ls /sys/class/net"), "eth0\nlo\n");
  assert.match(await bed.sh("open", "cat /etc/resolv.conf"), /^nameserver 10\.0\.2\.3$/m);
  assert.match(await bed.sh("open", "cat /proc/net/fib_trie"), /10\.0\.2\.15/);
});

test("nothing comes in: neither VMM listens on any TCP or UDP port of the host", async () => {
  const vmms = bed.vmms();
  assert.equal(vmms.length, 2);
  const tables = ["tcp", "tcp6", "udp", "udp6"];
  const listening = new Set(tables.flatMap((kind) => boundInodes(`/proc/net/${kind}`)));
  for (const { pid } of vmms) {
    const own = socketInodes(pid).filter((inode) => listening.has(inode));
    assert.deepEqual(own, [], `VMM ${pid} has a socket that takes packets from anywhere`);
  }
});

/** Inodes of sockets that listen, or have no peer. */
function boundInodes(table: string): string[] {
  return readFileSync(table, "utf8")
    .split("\n")
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => /^0+:0000$/.test(fields[2] ?? ""))
    .map((fields) => fields[9] ?? "");
}

function socketInodes(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`)
    .map((fd) => /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1])
    .filter((inode) => inode !== undefined);
}
