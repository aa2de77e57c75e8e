/** VMs without a network have no card, and no VMM listens on the host. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { before, test } from "node:test";
import { Bed } from "./bed.ts";

const bed = new Bed();

before(async () => {
  await bed.ok(["image", "build", "debian"]);
  await bed.ok(["create", "--name", "shut", "--network", "none", "debian"]);
});

test("with --network none the guest has a loopback and no card", async () => {
  assert.equal(await bed.sh("shut", "ls /sys/class/net"), "lo\n");
  assert.equal(await bed.sh("shut", "cat /sys/class/net/lo/flags"), "0x9\n", "it is up");
  const reach = (address: string): string => `bash -c 'exec 3<>/dev/tcp/${address}/80' 2>&1 || true`;
  assert.match(await bed.sh("shut", reach("127.0.0.1")), /refused/, "the probe tells what answers");
  assert.match(await bed.sh("shut", reach("192.0.2.1")), /unreachable/);
});

test("nothing comes in: the VMM listens on no TCP or UDP port of the host", async () => {
  const vmms = bed.vmms();
  assert.equal(vmms.length, 1);
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
