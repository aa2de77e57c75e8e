/** Tests that nothing that a hostile agent sends can end hearthd, or keep a call from ending. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { HearthError } from "#base/error.ts";
import { connectAgent } from "#guest/agent-client.ts";
import { Fuzz } from "#testing/fuzz.ts";

const FRAMES = 5_000;
const PER_CONNECTION = 20;
const AT_ONCE = 10;
/** The deadline of a call whose agent stays silent. */
const CALL_MS = 30;

function frame(type: number, flags: number, id: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(id, 5);
  return Buffer.concat([head, payload]);
}

/** The HPACK encoding of `:status 200` and `content-type: application/proto`. */
const HEADERS = Buffer.concat([Buffer.from([0x88, 0x5f, 0x11]), Buffer.from("application/proto")]);

function hostileFrame(fuzz: Fuzz): Buffer {
  const stream = 1 + 2 * fuzz.int(3);
  const shapes = [
    () => frame(0x1, 0x4, stream, HEADERS),
    () => frame(0x1, 0x5, stream, HEADERS),
    () => frame(0x0, fuzz.int(2), stream, fuzz.bytes(64)),
    () => frame(0x0, 0, stream, Buffer.concat([Buffer.from([2, 0, 0, 0, 9]), Buffer.from('{"a":null')])),
    () => frame(0x3, 0, stream, fuzz.bytes(4)),
    () => frame(0x5, 0x4, 1, Buffer.concat([Buffer.from([0, 0, 0, 2]), HEADERS])),
    () => frame(0x6, fuzz.int(2), 0, Buffer.alloc(8)),
    () => frame(0x8, 0, fuzz.int(3), Buffer.from([0x7f, 0xff, 0xff, 0xff])),
    () => frame(fuzz.int(11), fuzz.int(256), fuzz.int(8), fuzz.bytes(64)),
  ];
  return fuzz.pick(shapes)();
}

function serve(socket: Socket, fuzz: Fuzz): void {
  let text = "";
  let isGreeted = false;
  socket.on("error", () => undefined); // hearthd may close it at any time.
  socket.on("data", (bytes: Buffer) => {
    text += bytes.toString("latin1");
    const hello = /HEARTH\/1 ([0-9a-f]{32})\n/.exec(text)?.[1];
    if (isGreeted || hello === undefined) return;
    isGreeted = true;
    socket.write(`HEARTH-OK/1 ${hello}\n`);
    const frames = Array.from({ length: PER_CONNECTION }, () => hostileFrame(fuzz));
    socket.write(
      Buffer.concat([frame(0x4, 0, 0, Buffer.alloc(0)), frame(0x4, 1, 0, Buffer.alloc(0)), ...frames]),
    );
    if (fuzz.oneIn(3)) socket.end();
  });
}

test(`${FRAMES} hostile frames of an agent end in answers, or in errors of Hearth`, async (t) => {
  const fuzz = new Fuzz(t);
  const dir = mkdtempSync(join(tmpdir(), "fuzz-"));
  const agentSocket = join(dir, "agent.sock");
  const server = createServer((socket) => serve(socket, fuzz));
  server.listen(agentSocket);
  await once(server, "listening");
  t.after(() => {
    server.close();
    rmSync(dir, { recursive: true });
  });
  const exec = async (
    agent: Awaited<ReturnType<typeof connectAgent>>,
    signal: AbortSignal,
  ): Promise<void> => {
    const spec = { argv: ["true"], env: {}, stdin: false, detach: false };
    const stdin = (async function* () {})();
    for await (const event of agent.exec(spec, { id: "a", stdin }, signal)) assert.ok(event.type);
  };
  const attack = async (): Promise<void> => {
    const agent = await connectAgent({ agentSocket }, AbortSignal.timeout(5_000));
    const signal = AbortSignal.timeout(CALL_MS);
    const calls = [agent.info(signal), agent.thaw(0, signal), agent.pingMs(signal), exec(agent, signal)];
    for (const call of await Promise.allSettled(calls)) {
      if (call.status === "rejected")
        assert.ok(call.reason instanceof HearthError, String((call.reason as Error).stack));
    }
    agent.close();
    await agent.closed;
  };
  let left = FRAMES / PER_CONNECTION;
  const attacker = async (): Promise<void> => {
    while (left-- > 0) await attack();
  };
  await Promise.all(Array.from({ length: AT_ONCE }, attacker));
});
