import assert from "node:assert/strict";
import { test } from "node:test";
import type { TestContext } from "node:test";
import type { Operation } from "#api/wire.ts";
import { Turns } from "#base/turns.ts";
import { runCli } from "#testing/cli-run.ts";
import type { CliResult } from "#testing/cli-run.ts";
import { serveDaemon } from "#testing/served-daemon.ts";

/** Starts a hearthd with a VM that cannot boot for now, and returns functions that run command lines with it. */
async function setUp(t: TestContext) {
  const served = await serveDaemon(t);
  served.host.boots = new Turns(1);
  const turn = await served.host.boots.take(t.signal);
  await served.create("web");
  const hearth = (...argv: readonly string[]): Promise<CliResult> => runCli(served, argv);
  return { served, hearth, boot: () => turn[Symbol.dispose]() };
}

test("a detached start prints its operation, which is listed, waited for and shown with its result", async (t) => {
  const { hearth, boot } = await setUp(t);
  const { code, stdout } = await hearth("start", "--detach", "web");
  const id = stdout.trim();
  assert.match(id, /^op-[0-9a-f]{12}$/);
  assert.equal(code, 0);
  const row = new RegExp(
    `^OPERATION +STATE +REQUEST +TIME +DETAIL\\n${id} +running +POST /v1/vms/web/start +`,
  );
  assert.match((await hearth("operation", "ls")).stdout, row);
  const wait = hearth("operation", "wait", id);
  boot();
  assert.deepEqual([(await wait).code, (await wait).stdout], [0, `${id}\n`]);
  const shown = JSON.parse((await hearth("operation", "show", id, "--json")).stdout) as Operation;
  assert.equal((shown.result as { phase: string }).phase, "running");
  assert.match((await hearth("operation", "show", id)).stdout, /^state +succeeded$/m);
  assert.equal((await hearth("operation", "ls", "-q")).stdout, `${id}\n`);
});

test("a detached start of a VM that does not exist fails at once", async (t) => {
  const { hearth } = await setUp(t);
  const { code, stderr } = await hearth("start", "--detach", "nobody");
  assert.equal(code, 1);
  assert.match(stderr, /There is no VM "nobody"/);
});

test("waiting for an operation that fails exits with its error", async (t) => {
  const { served, hearth, boot } = await setUp(t);
  boot();
  served.host.driver.faults.bootError = new Error("no room for a VMM");
  const { stdout } = await hearth("start", "--detach", "web");
  const { code, stderr } = await hearth("operation", "wait", stdout.trim());
  assert.equal(code, 1);
  assert.match(stderr, /^error: .*no room for a VMM/m);
  assert.match((await hearth("operation", "show", stdout.trim())).stdout, /^error +.*no room for a VMM/m);
});

test("cancelling waits until the start is undone, and reports an operation that has ended already", async (t) => {
  const { served, hearth } = await setUp(t);
  const id = (await hearth("start", "--detach", "web")).stdout.trim();
  const first = await hearth("operation", "cancel", id);
  assert.deepEqual([first.code, first.stdout], [0, `${id}\n`]);
  assert.equal((await (await served.client()).vm("web").show()).phase, "created");
  const { code, stdout } = await hearth("operation", "cancel", id);
  assert.deepEqual([code, stdout], [0, `${id}\n`]);
});

test("invalid ids and unknown operations are errors with a hint", async (t) => {
  const { hearth } = await setUp(t);
  assert.equal((await hearth("operation", "show", "web")).code, 2);
  const { code, stderr } = await hearth("operation", "cancel", "op-000000000000");
  assert.equal(code, 1);
  assert.match(
    stderr,
    /There is no operation op-000000000000\.\nhint: hearthd keeps a limited number of operations/,
  );
});

test("commands that have ended are listed only with --all, and ids are completed", async (t) => {
  const { served, hearth, boot } = await setUp(t);
  boot();
  await served.run("db");
  await (await served.client()).vm("db").exec(["true"]);
  assert.match((await hearth("operation", "ls")).stderr, /no operations in progress/);
  const all = await hearth("operation", "ls", "--all", "--json");
  const [exec] = JSON.parse(all.stdout) as Operation[];
  assert.equal(exec?.request, "WEBSOCKET /v1/vms/db/exec");
  assert.match(
    (await hearth("__complete", "operation", "show", "")).stdout,
    new RegExp(`^${exec?.id}$`, "m"),
  );
});
