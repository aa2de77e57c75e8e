/** Tests connections inside the guest with the real agent on this machine. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type AddressInfo, type Server } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { HearthError } from "#base/error.ts";
import type { AgentClient } from "#guest/agent-client.ts";
import { startRealAgent, type RealAgent } from "#testing/real-agent.ts";

let real: RealAgent;
let agent: AgentClient;
before(async () => {
  real = await startRealAgent();
  agent = await real.connect();
});
after(() => real[Symbol.asyncDispose]());

const soon = (): AbortSignal => AbortSignal.timeout(60_000);

/** Listens, and echoes what it has read once the other side has ended. */
async function listen(target: string | { port: number; host: string }): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const chunks: Buffer[] = [];
    socket.on("data", (chunk) => chunks.push(chunk));
    socket.on("end", () => socket.end(Buffer.concat(chunks)));
  });
  server.listen(target);
  await once(server, "listening");
  return server;
}

async function* parts(...words: string[]): AsyncGenerator<Uint8Array> {
  for (const word of words) yield Buffer.from(word);
}

test("bytes go both ways over TCP, and ending one side leaves the other open", async (t) => {
  const server = await listen({ port: 0, host: "127.0.0.1" });
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const source = parts("one", "two");
  const answer = await Array.fromAsync(
    agent.dial({ network: "tcp", host: "127.0.0.1", port }, source, soon()),
  );
  assert.equal(answer[0]?.byteLength, 0, "it is open before anything comes");
  assert.equal(Buffer.concat(answer).toString(), "onetwo");
});

test("bytes go both ways over a Unix socket", async (t) => {
  const path = join(real.dir, "echo.sock");
  const server = await listen(path);
  t.after(() => server.close());
  const answer = await Array.fromAsync(agent.dial({ network: "unix", path }, parts("x"), soon()));
  assert.equal(Buffer.concat(answer).toString(), "x");
});

test("a dial fails where nothing listens", async () => {
  const path = join(real.dir, "nobody.sock");
  await assert.rejects(
    Array.fromAsync(agent.dial({ network: "unix", path }, parts("x"), soon())),
    HearthError,
  );
});
