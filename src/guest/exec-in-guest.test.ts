/** Tests commands with the real agent on this machine. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { HearthError, type ErrorCode } from "#base/error.ts";
import type { AgentClient, ExecEvent } from "#guest/agent-client.ts";
import { findProcess } from "#host/procfs.ts";
import type { ExecSpec } from "#model/exec-spec.ts";
import { startRealAgent, type RealAgent } from "#testing/real-agent.ts";

let real: RealAgent;
let agent: AgentClient;
before(async () => {
  real = await startRealAgent();
  agent = await real.connect();
});
after(() => real[Symbol.asyncDispose]());

const soon = (): AbortSignal => AbortSignal.timeout(120_000);
let lastId = 0;
const newId = (): string => `exec-${++lastId}`;

function shell(script: string, more: Partial<ExecSpec> = {}): ExecSpec {
  return { argv: ["/bin/sh", "-c", script], env: {}, stdin: false, detach: false, ...more };
}

type Outcome = { stdout: Buffer; stderr: Buffer; exit: Extract<ExecEvent, { type: "exited" }> };

async function outcome(spec: ExecSpec, stdin?: AsyncIterable<Uint8Array>): Promise<Outcome> {
  const out: Uint8Array[] = [];
  const err: Uint8Array[] = [];
  for await (const event of agent.exec(spec, { id: newId(), stdin }, soon())) {
    if (event.type === "stdout") out.push(event.bytes);
    if (event.type === "stderr") err.push(event.bytes);
    if (event.type === "exited")
      return { stdout: Buffer.concat(out), stderr: Buffer.concat(err), exit: event };
  }
  throw new Error("no exit");
}

async function failsWith(spec: ExecSpec, code: ErrorCode): Promise<void> {
  await assert.rejects(outcome(spec), (error) => {
    assert.ok(error instanceof HearthError, String(error));
    assert.equal(error.code, code, error.message);
    return true;
  });
}

/** Returns the first line of a command's output, and leaves the command running. */
async function firstLine(events: AsyncGenerator<ExecEvent>): Promise<string> {
  let text = "";
  for (;;) {
    const { value } = await events.next();
    if (value?.type === "stdout") text += Buffer.from(value.bytes).toString();
    if (text.includes("\n")) return text.slice(0, text.indexOf("\n")).trim();
  }
}

/**
 * Polls until a process is gone. It is not a child of the test, so there is no event; the test's timeout bounds the
 * wait.
 */
async function gone(pid: number): Promise<void> {
  while (findProcess(pid) !== undefined) await new Promise((resolve) => setTimeout(resolve, 10));
}

async function* endless(): AsyncGenerator<Uint8Array> {
  for (;;) yield Buffer.alloc(65_536);
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

test("argv arrives byte for byte", async () => {
  const words = [
    "two words",
    `"'\``,
    "$HOME $(id) \\",
    "a\nb\r\n\n",
    "",
    "*",
    "?[a-z]{1,2}~",
    "-n",
    "ü€😀",
    "x".repeat(100_000),
  ];
  const { stdout } = await outcome(shell("", { argv: ["/usr/bin/printf", "%s\\0", ...words] }));
  assert.deepEqual(stdout.toString().split("\0").slice(0, -1), words);
});

test("exit codes pass through", async () => {
  for (const code of [0, 1, 42, 255]) {
    assert.deepEqual((await outcome(shell(`exit ${code}`))).exit, { type: "exited", code, timedOut: false });
  }
});

test("a command that dies of signal n exits with 128+n and names it", async () => {
  for (const [name, number] of [
    ["TERM", 15],
    ["KILL", 9],
    ["SEGV", 11],
  ] as const) {
    const { exit } = await outcome(shell(`kill -${name} $$`));
    assert.deepEqual(exit, { type: "exited", code: 128 + number, signal: number, timedOut: false });
  }
});

test("a missing command, one that is not executable, and an unknown user are different errors", async () => {
  await failsWith(shell("", { argv: ["no-such-command"] }), "exec.not_found");
  await failsWith(shell("", { argv: ["/no/such/command"] }), "exec.not_found");
  await failsWith(shell("", { argv: ["/etc/passwd"] }), "exec.not_executable");
  await failsWith(shell("true", { user: "nobody-of-that-name" }), "exec.bad_user");
});

test("stdout and stderr stay apart, env and workdir arrive", async () => {
  const { stdout, stderr } = await outcome(
    shell('pwd; printf %s "$A" >&2', { env: { A: "b c" }, workdir: "/usr" }),
  );
  assert.equal(stdout.toString(), "/usr\n");
  assert.equal(stderr.toString(), "b c");
});

test("1 MiB of random bytes without a newline comes back through cat as it was", async () => {
  const bytes = randomBytes(1024 * 1024);
  const { stdout } = await outcome({ ...shell(""), argv: ["cat"], stdin: true }, once(bytes));
  assert.ok(stdout.equals(bytes));
});

test("without stdin a command reads its end at once", async () => {
  assert.equal((await outcome(shell("wc -c"))).stdout.toString().trim(), "0");
});

test("a cancelled exec kills its whole process group, also one that reads no stdin", async () => {
  const cancel = new AbortController();
  const spec = shell("sleep 1000 & echo $!; wait", { stdin: true });
  const events = agent.exec(spec, { id: newId(), stdin: endless() }, cancel.signal);
  const pid = Number(await firstLine(events));
  assert.ok(findProcess(pid) !== undefined);
  const end = events.next();
  cancel.abort();
  await assert.rejects(end, (error: HearthError) => error.code === "operation.cancelled");
  await gone(pid);
});

test("a detached command outlives its stream", async () => {
  const spec = shell("exec sleep 1000", { detach: true });
  let pid = 0;
  for await (const event of agent.exec(spec, { id: newId() }, soon())) {
    if (event.type === "started") pid = event.pid;
    if (event.type === "started") break;
  }
  await agent.info(soon());
  assert.ok(findProcess(pid) !== undefined);
  process.kill(pid, "SIGKILL");
});

test("a command that exceeds its time limit gets SIGTERM and exits with 124", async () => {
  const { exit } = await outcome(shell("exec sleep 1000", { timeoutMs: 100 }));
  assert.equal(exit.timedOut, true);
  assert.equal(exit.code, 124);
});

test("signals reach a command whose stdin is full", async () => {
  const id = newId();
  const spec = shell("trap 'exit 9' USR1; echo ready; while :; do sleep 0.01; done", { stdin: true });
  const events = agent.exec(spec, { id, stdin: once(Buffer.alloc(4 * 1024 * 1024)) }, soon());
  assert.equal(await firstLine(events), "ready");
  await agent.signalExec(id, 10, soon());
  const rest = await Array.fromAsync(events);
  assert.deepEqual(rest.at(-1), { type: "exited", code: 9, timedOut: false });
});

test("a signal for a command that has ended is not an error", async () => {
  await agent.signalExec("ended", 15, soon());
  await agent.resizeExec("ended", { rows: 1, cols: 1 }, soon());
});

test("a terminal has the size it was given, and the one it gets later", async () => {
  const id = newId();
  const script = "stty size; trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.01; done";
  const spec = shell(script, { tty: { rows: 33, cols: 77, term: "xterm" } });
  const events = agent.exec(spec, { id }, soon());
  let text = "";
  for await (const event of events) {
    if (event.type === "stdout") text += Buffer.from(event.bytes).toString();
    if (event.type === "stdout" && text.endsWith("ready\r\n"))
      await agent.resizeExec(id, { rows: 50, cols: 132 }, soon());
  }
  assert.deepEqual(text.split("\r\n"), ["33 77", "ready", "50 132", ""]);
});

test("1,000 commands at once all answer with their own code", async () => {
  const exits = await Promise.all(
    Array.from({ length: 1000 }, (_, n) => outcome(shell(`echo ${n}; exit ${n % 256}`))),
  );
  for (const [n, { exit, stdout }] of exits.entries()) {
    assert.equal(exit.code, n % 256);
    assert.equal(stdout.toString(), `${n}\n`);
  }
});

test("the real agent reports its guest as frozen until a thaw or the next identity", async () => {
  const frozen = async (): Promise<boolean> => (await agent.info(soon())).frozen;
  assert.equal(await frozen(), false);
  assert.deepEqual(await agent.freeze({ flush: false, timeoutMs: 1_000, untilThaw: false }, soon()), []);
  assert.equal(await frozen(), true);
  await agent.thaw(Date.now(), soon());
  await agent.thaw(Date.now(), soon());
  assert.equal(await frozen(), false);
  await agent.freeze({ flush: false, timeoutMs: 1_000, untilThaw: false }, soon());
  const identity = { hostname: "a", entropy: new Uint8Array(), env: {}, command: [], mounts: [] };
  assert.deepEqual(await agent.configure({ ...identity, restored: true }, soon()), {
    warnings: [],
    initFollows: false,
  });
  assert.equal(await frozen(), false);
});
