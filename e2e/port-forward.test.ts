/** Ports of a VM without a network, reached through its agent. */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect } from "node:net";
import type { Socket } from "node:net";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { after, before, test } from "node:test";
import type { VmPorts } from "#api/wire.ts";
import { Bed } from "./bed.ts";
import { SMALL } from "./templates.ts";

const bed = new Bed();
/** Echoes on the guest's loopback, each client in a process of its own. */
const SERVER = [
  'use IO::Socket; $| = 1; $SIG{CHLD} = "IGNORE";',
  '$s = IO::Socket::INET->new(Listen => 64, LocalAddr => "127.0.0.1", LocalPort => 80) or die; print "ready\\n";',
  "while ($c = $s->accept) { if (fork) { close $c; next } while (sysread($c, $b, 65536)) { $at = 0;",
  "while ($at < length $b) { $at += syswrite($c, $b, length($b) - $at, $at) } } exit }",
].join(" ");
let command: ChildProcess;
let stderr = "";
let port = 0;

before(async () => {
  await bed.ok(["create", "--name", "box", "--no-warm", ...SMALL, "debian"]);
  await bed.sh("box", `setsid nohup perl -e '${SERVER}' > /tmp/server 2>&1 < /dev/null &`);
  await bed.until(async () => (await bed.sh("box", "cat /tmp/server")) === "ready\n");
  const forward = bed.start(["port-forward", "box", "0:80"]);
  command = forward;
  forward.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  const [line] = (await once(createInterface(forward.stdout as Readable), "line")) as [string];
  port = Number(/^127\.0\.0\.1:(\d+) -> 80$/.exec(line)?.[1]);
});

after(() => void command.kill("SIGKILL"));

/** Opens a connection, which may end by a reset. */
async function open(): Promise<Socket> {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true }).on("error", () => {});
  await once(socket, "connect");
  return socket;
}

async function echoed(bytes: Buffer): Promise<Buffer> {
  const socket = await open();
  socket.end(bytes);
  return buffer(socket);
}

test("megabytes go to a guest's loopback and back, whole", async () => {
  const sent = randomBytes(4 * 1024 * 1024);
  assert.ok((await echoed(sent)).equals(sent));
});

test("twenty connections at once have each their own bytes", async () => {
  const sent = Array.from({ length: 20 }, () => randomBytes(10_000));
  const came = await Promise.all(sent.map(echoed));
  for (const [index, bytes] of came.entries()) assert.ok(bytes.equals(sent[index] ?? Buffer.alloc(0)));
});

test("a connection resumes a suspended VM, and reaches the server that ran before", async () => {
  await bed.ok(["suspend", "box"]);
  assert.equal((await echoed(Buffer.from("hello"))).toString(), "hello");
});

test("the server of a guest is listed with its program, and as one that forwarding a port reaches", async () => {
  const { ports, truncated } = JSON.parse(await bed.ok(["ports", "box", "--json"])) as VmPorts;
  const found = ports.find((one) => one.port === 80);
  assert.deepEqual(found, {
    protocol: "tcp",
    address: "127.0.0.1",
    port: 80,
    pid: found?.pid,
    program: "perl",
    user: "root",
    published: [],
    forward: true,
  });
  assert.equal(await bed.sh("box", `cat /proc/${found?.pid}/comm`), "perl\n");
  assert.ok(!truncated);
  assert.match(await bed.ok(["ports", "box"]), /^80 +tcp +127\.0\.0\.1 +perl +\d+ +port-forward$/m);
});

test("a connection ends when its VM is removed, the next one is reset with a note, and Ctrl-C ends it all", async () => {
  const socket = await open();
  socket.write("x");
  await once(socket, "data");
  const closed = new Promise((resolve) => socket.once("close", resolve));
  socket.resume();
  await bed.ok(["rm", "-f", "box"]);
  await closed;
  const late = await open();
  await new Promise((resolve) => late.resume().once("close", resolve));
  await bed.until(() => /Port 80: There is no VM "box"/.test(stderr));
  const exited = once(command, "exit");
  command.kill("SIGINT");
  assert.deepEqual(await exited, [0, null]);
  assert.deepEqual(bed.leftovers(), []);
});
