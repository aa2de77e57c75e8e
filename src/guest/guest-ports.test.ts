import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { connectAgent } from "#guest/agent-client.ts";
import { startRealAgent } from "#testing/real-agent.ts";
import { startScriptedAgent } from "#testing/scripted-agent.ts";
import type { AgentScript } from "#testing/scripted-agent.ts";

const soon = (): AbortSignal => AbortSignal.timeout(20_000);
const SSH = { protocol: "tcp", address: "0.0.0.0", port: 22, pid: 9, program: "sshd", user: "root" };

async function list(t: TestContext, answers: AgentScript["answers"]) {
  const dir = mkdtempSync(join(tmpdir(), "hearth-ports-"));
  const scripted = await startScriptedAgent(join(dir, "agent.sock"), { answers });
  const agent = await connectAgent({ agentSocket: scripted.socketPath }, soon());
  t.after(async () => {
    agent.close();
    await scripted[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true });
  });
  return agent.listPorts(soon());
}

test("the names that a guest gives are bounded and safe to print, and a port without a process has none", async (t) => {
  const nameless = { ...SSH, port: 23, pid: 0 };
  const named = { ...SSH, program: "\x1b[2Jx\n", user: "u".repeat(10_000) };
  const { ports, truncated } = await list(t, { listPorts: () => ({ ports: [nameless, named] }) });
  assert.deepEqual(ports, [
    { ...SSH, program: "\\x1b[2Jx ", user: `${"u".repeat(64)}…` },
    { protocol: "tcp", address: "0.0.0.0", port: 23 },
  ]);
  assert.equal(truncated, false);
});

test("a list that is longer than an agent's is cut off, and says so", async (t) => {
  const ports = Array.from({ length: 2_000 }, (_, index) => ({ ...SSH, port: index + 1 }));
  const found = await list(t, { listPorts: () => ({ ports }) });
  assert.deepEqual([found.ports.length, found.truncated], [1_000, true]);
});

test("what is no port is an error, and nothing of it is taken", async (t) => {
  const wrong = [
    { protocol: "sctp" },
    { address: "x" },
    { address: "fe80::1%\x1b" },
    { port: 0 },
    { port: 70_000 },
  ];
  for (const part of [...wrong, { pid: 2 ** 31 }])
    await assert.rejects(list(t, { listPorts: () => ({ ports: [SSH, { ...SSH, ...part }] }) }), {
      code: "agent.failed",
      message: /lists a port that cannot be/,
    });
});

test("an agent that is older than the list is an error that tells to restart the VM", async (t) => {
  await assert.rejects(list(t, {}), { code: "feature.missing", hint: /Restart the VM/ });
});

test("the real agent lists a server with its process", async () => {
  await using real = await startRealAgent();
  const agent = await real.connect();
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  try {
    const { ports } = await agent.listPorts(soon());
    const found = ports.find((one) => one.port === port && one.protocol === "tcp");
    assert.deepEqual([found?.address, found?.pid], ["127.0.0.1", process.pid]);
    assert.ok((found?.program ?? "") !== "");
  } finally {
    server.close();
  }
});
