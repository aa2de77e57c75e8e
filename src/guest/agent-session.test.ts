/** Tests large streams in bounded memory, and connections that break. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import type { HearthError } from "#base/error.ts";
import { GIB, MIB } from "#base/sizes.ts";
import { connectAgent, type AgentClient } from "#guest/agent-client.ts";
import { waitForAgent } from "#guest/wait-for-agent.ts";
import { killAgent, startRealAgent, type RealAgent } from "#testing/real-agent.ts";
import { startSerialPort } from "#testing/serial-port.ts";

let real: RealAgent;
let agent: AgentClient;
beforeEach(async () => {
  real = await startRealAgent();
  agent = await real.connect();
});
afterEach(() => real[Symbol.asyncDispose]());

const soon = (): AbortSignal => AbortSignal.timeout(300_000);
const CHUNK_BYTES = 256 * 1024;
/** The windows and buffers of a stream, and garbage that is not collected yet. */
const GROWTH_MAX_BYTES = 160 * MIB;

/** Samples the memory at every step of a stream. `growthBytes` returns the largest growth. */
function memoryWatch(): { sample(): void; growthBytes(): number } {
  const before = process.memoryUsage.rss();
  let most = before;
  return {
    sample: () => (most = Math.max(most, process.memoryUsage.rss())),
    growthBytes: () => most - before,
  };
}

test("1 GiB goes into stdin in bounded memory", async () => {
  const watch = memoryWatch();
  async function* gibibyte(): AsyncGenerator<Uint8Array> {
    const chunk = Buffer.alloc(CHUNK_BYTES, 7);
    for (let sent = 0; sent < GIB; sent += chunk.length) {
      watch.sample();
      yield chunk;
    }
  }
  const spec = { argv: ["wc", "-c"], env: {}, stdin: true, detach: false };
  let stdout = "";
  for await (const event of agent.exec(spec, { id: "in", stdin: gibibyte() }, soon())) {
    if (event.type === "stdout") stdout += Buffer.from(event.bytes).toString();
  }
  assert.equal(Number(stdout), GIB);
  assert.ok(watch.growthBytes() < GROWTH_MAX_BYTES, `grew by ${watch.growthBytes() / MIB} MiB`);
});

test("1 GiB comes out of stdout to a slow reader in bounded memory", async () => {
  const watch = memoryWatch();
  const spec = { argv: ["head", "-c", String(GIB), "/dev/zero"], env: {}, stdin: false, detach: false };
  let received = 0;
  let events = 0;
  for await (const event of agent.exec(spec, { id: "out" }, soon())) {
    if (event.type !== "stdout") continue;
    received += event.bytes.length;
    // All other calls on the connection proceed while this reader is slow.
    if (++events % 500 === 0) await agent.info(soon());
    watch.sample();
  }
  assert.equal(received, GIB);
  assert.ok(watch.growthBytes() < GROWTH_MAX_BYTES, `grew by ${watch.growthBytes() / MIB} MiB`);
});

test("a reader that stops blocks its command and no other", async () => {
  const events = agent.exec(
    { argv: ["sh", "-c", "head -c 64M /dev/zero"], env: {}, stdin: false, detach: false },
    { id: "stuck" },
    soon(),
  );
  await events.next();
  await events.next();
  const watch = memoryWatch();
  for (let n = 0; n < 200; n += 1) await agent.info(soon());
  assert.equal((await agent.info(soon())).execs, 1, "the command still waits for its reader");
  assert.ok(watch.growthBytes() < 32 * MIB, `grew by ${watch.growthBytes() / MIB} MiB`);
  await events.return();
});

test("killing an agent in the middle of a command makes it an unreachable agent", async () => {
  const exec = agent.exec(
    { argv: ["sleep", "1000"], env: {}, stdin: false, detach: false },
    { id: "lost" },
    soon(),
  );
  const started = await exec.next();
  assert.equal(started.value?.type, "started");
  const end = exec.next();
  killAgent(real.pid);
  await assert.rejects(end, (error: HearthError) => error.code === "agent.unreachable");
  assert.ok((await agent.closed) instanceof Error);
  // The agent had no time to kill the command.
  if (started.value?.type === "started") process.kill(started.value.pid, "SIGKILL");
});

test("a host that is cut off in the middle of a stream can reconnect on the same port", async () => {
  await using port = await startSerialPort(join(real.dir, "port.sock"), real.socketPath);
  for (let round = 0; round < 5; round += 1) {
    const { agent: first } = await waitForAgent(
      { agentSocket: port.socketPath },
      { deadlineMs: 20_000 },
      soon(),
    );
    const spec = { argv: ["cat"], env: {}, stdin: true, detach: false };
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (;;) yield Buffer.alloc(50_000, round);
    }
    const exec = first.exec(spec, { id: `cut-${round}`, stdin: endless() }, soon());
    for (let n = 0; n < 20; n += 1) await exec.next();
    const end = Array.fromAsync(exec);
    port.cutHost();
    await assert.rejects(end, (error: HearthError) => error.code === "agent.unreachable");
  }
  const { agent: last } = await waitForAgent(
    { agentSocket: port.socketPath },
    { deadlineMs: 20_000 },
    soon(),
  );
  while ((await last.info(soon())).execs > 0) await last.pingMs(soon());
  last.close();
});

test("a second connection is independent of the first", async () => {
  const second = await connectAgent({ agentSocket: real.socketPath }, soon());
  second.close();
  assert.equal(await second.closed, undefined);
  assert.equal((await agent.info(soon())).execs, 0);
});
