import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { setImmediate } from "node:timers/promises";
import { AgentSession } from "#guest/agent-session.ts";
import { openAgentStream } from "#guest/agent-stream.ts";
import { reachAgent } from "#guest/wait-for-agent.ts";

const HELLO_EVERY_MS = 50;
/** More hellos than the buffer of a socket holds, which is a few hundred while nothing reads. */
const HELLOS_MAX = 5_000;
const HELLO = /^HEARTH\/1 ([0-9a-f]{32})\n/;
/** A settings frame without settings (RFC 9113, section 6.5). */
const SETTINGS = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);

/** Listens on a socket like a VMM. `guest` resolves with the other end of its only connection. */
async function listen(t: TestContext): Promise<{ agentSocket: string; guest: Promise<Socket> }> {
  const dir = mkdtempSync(join(tmpdir(), "hearth-agent-"));
  const { promise: guest, resolve } = Promise.withResolvers<Socket>();
  const server = createServer(resolve);
  t.after(() => {
    server.close();
    rmSync(dir, { recursive: true });
  });
  const agentSocket = join(dir, "agent.sock");
  await once(server.listen(agentSocket), "listening");
  return { agentSocket, guest };
}

test("a guest that answers only when hellos fill the socket gets HTTP/2 after the last hello", async (t) => {
  const { agentSocket, guest } = await listen(t);
  t.mock.timers.enable({ apis: ["setInterval"] });
  const opening = openAgentStream({ agentSocket }, t.signal);
  let opened = false;
  void opening.then(() => (opened = true));
  const there = await guest;
  t.after(() => there.destroy());
  const [first] = (await once(there, "data")) as [Buffer];
  const nonce = HELLO.exec(first.toString())?.[1];
  there.pause();
  for (let hellos = 0; hellos < HELLOS_MAX; hellos += 1) {
    t.mock.timers.tick(HELLO_EVERY_MS);
    await setImmediate();
  }
  there.write(`HEARTH-OK/1 ${nonce}\n`);
  for (let turns = 0; turns < 100; turns += 1) await setImmediate();
  assert.equal(opened, false, "a hello waits to be read");

  there.resume();
  const session = new AgentSession(await opening);
  const preface = new Promise<void>((resolve) => {
    let read = "";
    there.on("data", (chunk: Buffer) => {
      read += chunk.toString("latin1");
      if (read.includes("PRI * HTTP/2.0")) resolve();
    });
  });
  there.write(SETTINGS);
  await preface;
  session.close();
  assert.equal(await session.closed, undefined);
});

test("bytes of HTTP/2 that come with the answer are not lost", async (t) => {
  const { agentSocket, guest } = await listen(t);
  const opening = openAgentStream({ agentSocket }, t.signal);
  const there = await guest;
  t.after(() => there.destroy());
  const [first] = (await once(there, "data")) as [Buffer];
  there.write(`left over of another life\nHEARTH-OK/1 ${HELLO.exec(first.toString())?.[1]}\nand more`);
  const socket = await opening;
  t.after(() => socket.destroy());
  const [rest] = (await once(socket, "data")) as [Buffer];
  assert.equal(rest.toString(), "and more");
});

test("a vsock connection without an answer is replaced by another one", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "hearth-agent-"));
  const agentSocket = join(dir, "vsock.sock");
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    if (sockets.length === 1) return; // Lost, as can happen after a restore.
    let said = "";
    let answered = false;
    socket.on("data", (chunk: Buffer) => {
      said += chunk.toString("latin1");
      const nonce = /HEARTH\/1 ([0-9a-f]{32})\n/.exec(said)?.[1];
      if (nonce === undefined || answered) return;
      answered = true;
      socket.write(`OK 1073741824\nHEARTH-OK/1 ${nonce}\n`);
    });
  });
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
    rmSync(dir, { recursive: true });
  });
  await once(server.listen(agentSocket), "listening");
  const address = { agentSocket, agentVsockPort: 1024 };
  const agent = await reachAgent(address, { deadlineMs: 60_000, vsockAttemptMs: 200 }, t.signal);
  assert.equal(sockets.length, 2);
  agent.close();
});
