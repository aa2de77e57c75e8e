/** Tests that a hostile or broken agent cannot harm hearthd. exec-in-guest.test.ts tests the real agent. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { HearthError, type ErrorCode } from "#base/error.ts";
import { connectAgent, type ExecEvent } from "#guest/agent-client.ts";
import { IdentityNotRenewedSchema } from "#guest/gen/hearth/agent/v1/agent_pb.ts";
import { waitForAgent } from "#guest/wait-for-agent.ts";
import { startScriptedAgent, type AgentScript } from "#testing/scripted-agent.ts";

const SPEC = { argv: ["x"], env: {}, stdin: true, detach: false };

function socketIn(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), "hearth-guest-"));
  t.after(() => rmSync(dir, { recursive: true }));
  return join(dir, "agent.sock");
}

/** Ends a call that hangs, so that the test fails by its own name before the runner's timeout. */
const soon = (): AbortSignal => AbortSignal.timeout(20_000);

async function connected(t: TestContext, script: AgentScript) {
  const scripted = await startScriptedAgent(socketIn(t), script);
  t.after(() => scripted[Symbol.asyncDispose]());
  const agent = await connectAgent({ agentSocket: scripted.socketPath }, soon());
  t.after(() => agent.close());
  return { scripted, agent };
}

async function* broken(): AsyncGenerator<Uint8Array> {
  yield Buffer.from("one");
  throw new HearthError("host.tool_failed", "The source broke.");
}

function failsWith(code: ErrorCode): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof HearthError, String(error));
    assert.equal(error.code, code, error.message);
    return true;
  };
}

test("20 MB left over from an earlier connection do not disturb the handshake", async (t) => {
  const staleBytes = Array.from({ length: 20 }, () => Buffer.alloc(1_000_000, "HEARTH-OK/1 0"));
  const { agent } = await connected(t, { staleBytes, answers: { info: () => ({ version: "1" }) } });
  assert.equal((await agent.info(soon())).agentVersion, "1");
});

test("an agent that answers a later hello, byte by byte, is connected to", async (t) => {
  const { agent, scripted } = await connected(t, {
    answerHello: 3,
    bytewise: true,
    answers: { info: () => ({ version: "1" }) },
  });
  assert.equal((await agent.info(soon())).agentVersion, "1");
  assert.ok(scripted.hellos.length >= 3);
  assert.equal(new Set(scripted.hellos).size, 1, "one connection has one nonce");
});

test("connecting to an agent that never answers ends at the deadline", async (t) => {
  const path = socketIn(t);
  await using scripted = await startScriptedAgent(path, { answerHello: 0 });
  await assert.rejects(
    connectAgent({ agentSocket: scripted.socketPath }, AbortSignal.timeout(200)),
    failsWith("operation.timed_out"),
  );
});

test("a socket path that the kernel would cut is refused", async () => {
  await assert.rejects(
    connectAgent({ agentSocket: `/tmp/${"x".repeat(110)}` }, soon()),
    failsWith("host.path_too_long"),
  );
});

test("a missing socket is an unreachable agent", async (t) => {
  await assert.rejects(connectAgent({ agentSocket: socketIn(t) }, soon()), failsWith("agent.unreachable"));
});

test("an agent can name only the errors of a guest, in text that is safe to print", async (t) => {
  const answer = { code: "exec.not_found" };
  const { agent } = await connected(t, {
    answers: {
      signalExec: () => {
        throw new ConnectError("no \x1b[31m such", Code.Internal, { "hearth-code": answer.code });
      },
    },
  });
  const call = () => agent.signalExec("1", 15, soon());
  await assert.rejects(call(), (error: HearthError) => {
    assert.equal(error.code, "exec.not_found");
    assert.equal(error.message, "No \\x1b[31m such.");
    return true;
  });
  for (answer.code of ["guest.disk_full", "host.disk_full"])
    await assert.rejects(call(), failsWith("guest.disk_full"));
  answer.code = "store.corrupt";
  await assert.rejects(call(), failsWith("agent.failed"));
});

test("a message that is too large is refused, not stored", async (t) => {
  const { agent } = await connected(t, {
    answers: { info: () => ({ version: "x".repeat(5_000_000) }) },
  });
  await assert.rejects(agent.info(soon()), failsWith("agent.failed"));
});

test("the texts of a report are bounded and safe to print", async (t) => {
  const { agent } = await connected(t, {
    answers: { info: () => ({ version: "\x1b[2J", kernel: "k".repeat(500_000) }) },
  });
  const report = await agent.info(soon());
  assert.equal(report.agentVersion, "\\x1b[2J");
  assert.equal(report.kernel.length, 101);
});

test("the warnings of a frozen guest are bounded and safe to print, and it reports that it is frozen", async (t) => {
  const asked: unknown[] = [];
  const { agent } = await connected(t, {
    answers: {
      freeze: ({ flush, timeoutMs, untilThaw }) => {
        asked.push({ flush, timeoutMs, untilThaw });
        return { warnings: Array.from({ length: 60 }, () => "\x1b".repeat(400)) };
      },
      info: () => ({ frozen: true }),
    },
  });
  const warnings = await agent.freeze({ flush: true, timeoutMs: 1_500.4, untilThaw: true }, soon());
  assert.equal(warnings.length, 50);
  assert.match(warnings[0] ?? "", /^(\\x1b)+/);
  assert.deepEqual(asked, [{ flush: true, timeoutMs: 1_500n, untilThaw: true }]);
  assert.equal((await agent.info(soon())).frozen, true);
});

test("a guest that cannot be frozen fails with the agent's sentence", async (t) => {
  const { agent } = await connected(t, {
    answers: {
      freeze: () => {
        throw new ConnectError("something in /a does not freeze", Code.Internal, {
          "hearth-code": "agent.failed",
        });
      },
    },
  });
  await assert.rejects(
    agent.freeze({ flush: false, timeoutMs: 1, untilThaw: false }, soon()),
    (error: HearthError) => {
      failsWith("agent.failed")(error);
      assert.match(error.message, /does not freeze/);
      return true;
    },
  );
});

test("a restored guest is told that it is restored, with its network card's address", async (t) => {
  const asked: unknown[] = [];
  const { agent } = await connected(t, {
    answers: {
      configure: ({ restored, network }) => {
        asked.push({ restored, mac: network?.mac });
        return {};
      },
    },
  });
  const identity = { hostname: "a", entropy: new Uint8Array(), env: {}, command: [], mounts: [] };
  const network = { interface: "eth0", addresses: [], gateway: "", nameservers: [] };
  await agent.configure({ ...identity, network }, soon());
  const mac = "02:00:00:00:00:01";
  await agent.configure({ ...identity, restored: true, network: { ...network, mac } }, soon());
  assert.deepEqual(asked, [
    { restored: false, mac: "" },
    { restored: true, mac },
  ]);
});

const RESTORED = {
  hostname: "a",
  entropy: new Uint8Array(),
  env: {},
  command: [],
  mounts: [],
  restored: true,
};

test("the error of a restored guest names the parts that it could not renew, bounded and safe to print", async (t) => {
  const failures = [
    { part: "entropy", reason: "RNDADDENTROPY: \x1b[2J" },
    { part: "\x1b[31m", reason: "x".repeat(10_000) },
    ...Array.from({ length: 1_000 }, () => ({ part: "more", reason: "" })),
  ];
  const { agent } = await connected(t, {
    answers: {
      configure: () => {
        const error = new ConnectError("no", Code.FailedPrecondition, {
          "hearth-code": "vm.identity_failed",
        });
        error.details.push({ desc: IdentityNotRenewedSchema, value: { failures } });
        throw error;
      },
    },
  });
  await assert.rejects(agent.configure(RESTORED, soon()), (error: HearthError) => {
    failsWith("vm.identity_failed")(error);
    assert.match(
      error.message,
      /could not renew its entropy \(RNDADDENTROPY: \\x1b\[2J\), \\x1b\[31m \(x+…\), more/,
    );
    assert.ok(error.message.length < 1_000);
    return true;
  });
});

test("an older agent's warnings about a restored guest's identity are an error, too", async (t) => {
  const answer = { warnings: ["The network could not be set up: no eth0"] };
  const { agent } = await connected(t, { answers: { configure: () => answer } });
  assert.deepEqual(await agent.configure(RESTORED, soon()), { ...answer, initFollows: false });
  answer.warnings.push("The entropy could not be added: RNDADDENTROPY: not permitted");
  await assert.rejects(agent.configure(RESTORED, soon()), {
    code: "vm.identity_failed",
    message: /its entropy \(RNDADDENTROPY: not permitted\)/,
  });
  const booted = await agent.configure({ ...RESTORED, restored: false }, soon());
  assert.equal(booted.warnings.length, 2, "one that booted runs all the same");
});

test("a stream that ends without an exit is an error, and so is a call after the connection has ended", async (t) => {
  const { agent } = await connected(t, {
    answers: {
      async *exec() {
        yield { response: { case: "started" as const, value: { pid: 1 } } };
      },
    },
  });
  await assert.rejects(Array.fromAsync(agent.exec(SPEC, { id: "1" }, soon())), failsWith("agent.failed"));
  agent.close();
  assert.equal(await agent.closed, undefined);
  await assert.rejects(agent.info(soon()), failsWith("agent.unreachable"));
  await assert.rejects(agent.pingMs(soon()), failsWith("agent.unreachable"));
});

test("when the stream is lost, every running call fails, and `closed` has the reason", async (t) => {
  const { agent, scripted } = await connected(t, {
    answers: {
      async *exec(_requests, { signal }) {
        yield { response: { case: "started" as const, value: { pid: 1 } } };
        await once(signal, "abort");
      },
    },
  });
  const execs = ["1", "2"].map((id) => agent.exec(SPEC, { id }, soon()));
  for (const exec of execs) assert.equal((await exec.next()).value?.type, "started");
  const ends = Promise.allSettled(execs.map((exec) => exec.next()));
  scripted.connections[0]?.destroy();
  assert.ok((await agent.closed) instanceof Error);
  for (const end of await ends) {
    assert.equal(end.status, "rejected");
    failsWith("agent.unreachable")(end.reason);
  }
  assert.equal(scripted.connections.length, 1, "nobody opened a second connection");
  await assert.rejects(agent.info(soon()), failsWith("agent.unreachable"));
  assert.equal(scripted.connections.length, 1);
});

test("a reader that stops early resets the stream", async (t) => {
  const cancelled = Promise.withResolvers<void>();
  const { agent } = await connected(t, {
    answers: {
      async *exec(_requests, { signal }) {
        signal.addEventListener("abort", () => cancelled.resolve());
        yield { response: { case: "started" as const, value: { pid: 1 } } };
        await once(signal, "abort");
      },
    },
  });
  for await (const event of agent.exec(SPEC, { id: "1" }, soon())) {
    assert.equal(event.type, "started");
    break;
  }
  await cancelled.promise;
});

test("a cancelled exec fails with the reason of its signal", async (t) => {
  const { agent } = await connected(t, {
    answers: {
      async *exec(_requests, { signal }) {
        yield { response: { case: "started" as const, value: { pid: 1 } } };
        await once(signal, "abort");
      },
    },
  });
  const cancel = new AbortController();
  const exec = agent.exec(SPEC, { id: "1" }, cancel.signal);
  await exec.next();
  const end = exec.next();
  cancel.abort(new HearthError("vm.gone", "The VM was removed."));
  await assert.rejects(end, failsWith("vm.gone"));
});

test("a command that exits does not wait for stdin that never ends", async (t) => {
  const { agent } = await connected(t, {
    answers: {
      async *exec() {
        yield { response: { case: "exited" as const, value: { code: 7 } } };
      },
    },
  });
  const returned = Promise.withResolvers<void>();
  const silent = {
    [Symbol.asyncIterator]: () => ({
      next: () => new Promise<IteratorResult<Uint8Array>>(() => undefined),
      return: () => {
        returned.resolve();
        return Promise.resolve({ done: true as const, value: undefined });
      },
    }),
  };
  const events: ExecEvent[] = await Array.fromAsync(agent.exec(SPEC, { id: "1", stdin: silent }, soon()));
  assert.deepEqual(events, [{ type: "exited", code: 7, timedOut: false }]);
  await returned.promise;
});

test("an exec fails with the error of its stdin", async (t) => {
  const { agent } = await connected(t, {
    answers: {
      async *exec(_requests, { signal }) {
        yield { response: { case: "started" as const, value: { pid: 1 } } };
        await once(signal, "abort");
      },
    },
  });
  const exec = Array.fromAsync(agent.exec(SPEC, { id: "1", stdin: broken() }, soon()));
  await assert.rejects(exec, failsWith("host.tool_failed"));
});

test("waiting for an agent can begin before its socket exists", async (t) => {
  const path = socketIn(t);
  const tried = Promise.withResolvers<void>();
  const ready = waitForAgent(
    { agentSocket: path },
    { deadlineMs: 20_000, onAttempt: () => tried.resolve() },
    soon(),
  );
  await tried.promise;
  await using scripted = await startScriptedAgent(path, { answers: { info: () => ({ version: "1" }) } });
  const { agent, report } = await ready;
  assert.equal(scripted.connections.length, 1);
  assert.equal(report.agentVersion, "1");
  agent.close();
});

test("waiting for an agent ends at its deadline, unreachable", async (t) => {
  const path = socketIn(t);
  const silent = createServer().listen(path);
  t.after(() => silent.close());
  await once(silent, "listening");
  silent.on("connection", (socket) => t.after(() => socket.destroy()));
  await assert.rejects(
    waitForAgent({ agentSocket: path }, { deadlineMs: 150 }, soon()),
    failsWith("agent.unreachable"),
  );
});
