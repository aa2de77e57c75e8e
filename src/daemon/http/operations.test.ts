import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { test } from "node:test";
import type { TestContext } from "node:test";
import type { Operation, Vm } from "#api/wire.ts";
import { Turns } from "#base/turns.ts";
import type { Images } from "#daemon/host.ts";
import { untilAborted } from "#testing/guest-command.ts";
import type { FakeHostOptions } from "#testing/fake-host.ts";
import { Gate } from "#testing/gate.ts";
import { ServedDaemon, serveDaemon } from "#testing/served-daemon.ts";
import type { Hearth } from "#sdk/hearth.ts";

type Bed = {
  readonly served: ServedDaemon;
  readonly hearth: Hearth;
  /** Lets boots continue; until it is called, each waits. */
  readonly boot: () => void;
};

/** A hearthd with a stopped VM, in which nothing can boot for now. */
async function setUp(t: TestContext, options: FakeHostOptions = {}): Promise<Bed> {
  const served = await serveDaemon(t, options);
  const { vms } = served.daemon;
  served.host.boots = new Turns(1);
  const turn = await served.host.boots.take(t.signal);
  await vms.create({ image: "debian", name: "web" }, false, vms.background());
  return { served, hearth: await served.client(), boot: () => turn[Symbol.dispose]() };
}

async function underWay(hearth: Hearth): Promise<Operation> {
  for (;;) {
    const [operation] = await hearth.operations.list();
    if (operation?.progress !== undefined) return operation;
  }
}

test("a request that changes something can be shown while it is under way, and afterwards", async (t) => {
  const { hearth, boot } = await setUp(t);
  const start = hearth.vm("web").start();
  const { id, ...running } = await underWay(hearth);
  assert.equal(running.request, "POST /v1/vms/web/start");
  assert.equal(running.principal, "owner");
  assert.equal(running.state, "running");
  assert.equal(running.progress?.stage, "boot");
  assert.equal(running.detached, false);
  boot();
  await start;
  const ended = await hearth.operations.wait(id);
  assert.equal(ended.state, "succeeded");
  assert.ok((ended.endedAtMs ?? 0) >= ended.startedAtMs);
  assert.equal(ended.result, undefined); // Its client has it.
});

test("requests that only read are no operations", async (t) => {
  const { hearth } = await setUp(t);
  await hearth.vms.list();
  await hearth.vm("web").show();
  assert.deepEqual(await hearth.operations.list(), []);
});

test("cancelling a start undoes it, tells its client, and a second cancel changes nothing", async (t) => {
  const { served, hearth } = await setUp(t);
  served.host.boots = new Turns(100);
  served.host.guestFaults.silent = "guest";
  const start = hearth.vm("web").start();
  const refused = assert.rejects(start, { code: "operation.cancelled", message: /was cancelled/ });
  const [{ id }] = (await hearth.operations.list()) as [Operation];
  assert.equal((await hearth.operations.cancel(id)).cancellable, true);
  const ended = await hearth.operations.wait(id);
  assert.equal(ended.state, "cancelled");
  assert.equal(ended.error?.code, "operation.cancelled");
  await refused;
  assert.equal((await hearth.vm("web").show()).phase, "created");
  assert.deepEqual(served.host.machine.vmms.running(), []);
  assert.equal((await hearth.operations.cancel(id)).state, "cancelled");
});

test("cancelling an exec ends the command, and its client is told", async (t) => {
  const { served, hearth, boot } = await setUp(t);
  boot();
  await served.run("db");
  const command = await hearth.vm("db").spawn(["endless"]);
  const [{ id, request }] = (await hearth.operations.list()) as [Operation];
  assert.equal(request, "WEBSOCKET /v1/vms/db/exec");
  await hearth.operations.cancel(id);
  await assert.rejects(command.exited, { code: "operation.cancelled", message: /was cancelled/ });
  assert.equal((await hearth.operations.wait(id)).state, "cancelled");
});

test("a stop that has begun cannot be cancelled, and its error says so", async (t) => {
  const { served, hearth, boot } = await setUp(t);
  boot();
  await served.run("db");
  const gate = new Gate();
  served.host.guestFaults.shutdownGate = gate;
  const stop = hearth.vm("db").stop();
  await gate.reached;
  const [{ id, cancellable }] = (await hearth.operations.list()) as [Operation];
  assert.equal(cancellable, false);
  await assert.rejects(hearth.operations.cancel(id), { code: "operation.lasting" });
  gate.open();
  assert.equal((await stop).phase, "stopped");
});

test("a detached start answers at once, outlives its client, and its result is fetched later", async (t) => {
  const { served, hearth, boot } = await setUp(t);
  const { id, state, detached } = await hearth.vm("web").start({ detach: true });
  assert.deepEqual({ state, detached }, { state: "running", detached: true });
  const told: string[] = [];
  const other = await served.client();
  const vm = other.operations.result<Vm>(id, { onProgress: ({ stage }) => void told.push(stage) });
  boot();
  assert.equal((await vm).phase, "running");
  assert.equal((await hearth.operations.show(id)).state, "succeeded");
  const [listed] = await hearth.operations.list();
  assert.deepEqual([listed?.id, listed?.result], [id, undefined]); // Lists stay short.
});

test("a start that is not detached is undone when its client leaves", async (t) => {
  const { hearth } = await setUp(t);
  const leave = new AbortController();
  const start = hearth.vm("web").start({ signal: leave.signal });
  const { id } = await underWay(hearth);
  leave.abort();
  await assert.rejects(start, { name: "AbortError" });
  assert.equal((await hearth.operations.wait(id)).state, "cancelled");
  assert.equal((await hearth.vm("web").show()).phase, "created");
});

test("a detached operation that fails keeps its error, also when it fails again", async (t) => {
  const { served, hearth, boot } = await setUp(t);
  boot();
  for (const reason of ["first", "second"]) {
    served.host.driver.faults.bootError = new Error(`the ${reason} reason`);
    const { id } = await hearth.vm("web").start({ detach: true });
    await assert.rejects(hearth.operations.result(id), new RegExp(`${reason} reason`));
    const { state, error } = await hearth.operations.show(id);
    assert.equal(state, "failed");
    assert.equal(error?.operation, id);
  }
});

test("a detached request that is wrong is an operation that failed, with the field", async (t) => {
  const { served } = await setUp(t);
  const transport = served.transport();
  const body = { image: "debian", cpus: 0 };
  const { id } = await transport.json<Operation>("POST", "/v1/vms", { body, detach: true });
  const { error } = await (await served.client()).operations.wait(id);
  assert.equal(error?.code, "input.invalid");
  assert.match(error?.message ?? "", /cpus/);
});

test("a detached operation is cancelled as any other", async (t) => {
  const { hearth } = await setUp(t);
  const { id } = await hearth.vm("web").start({ detach: true });
  await hearth.operations.cancel(id);
  assert.equal((await hearth.operations.wait(id)).state, "cancelled");
  assert.equal((await hearth.vm("web").show()).phase, "created");
});

test("when hearthd ends, a detached operation is undone, its waiting client is told, and the next hearthd does not know it", async (t) => {
  const { served, hearth } = await setUp(t);
  const { id } = await hearth.vm("web").start({ detach: true });
  const waits = assert.rejects(hearth.operations.wait(id), { code: "daemon.stopping" });
  await underWay(hearth);
  assert.equal(await served.end(), true);
  await waits;
  const next = await new ServedDaemon(served.host.machine).listen();
  t.after(() => next.end());
  const after = await next.client();
  assert.equal((await after.vm("web").show()).phase, "created");
  await assert.rejects(after.operations.show(id), { code: "operation.not_found", hint: /hearth ls/ });
});

test("an id that is under way is refused a second time, and may be used again after its end", async (t) => {
  const { served, hearth, boot } = await setUp(t);
  const transport = served.transport();
  const operation = "op-0123456789ab";
  const start = () => transport.json<Vm>("POST", "/v1/vms/web/start", { operation });
  const first = start();
  await underWay(hearth);
  await assert.rejects(start(), { code: "operation.taken" });
  await assert.rejects(transport.json("POST", "/v1/vms/web/start", { operation, detach: true }), {
    code: "operation.taken",
  });
  assert.equal((await hearth.operations.show(operation)).state, "running");
  boot();
  assert.equal((await first).phase, "running");
  await assert.rejects(start(), { code: "vm.wrong_phase" });
  assert.equal((await hearth.operations.show(operation)).error?.code, "vm.wrong_phase");
});

test("a request that reads or streams cannot be detached", async (t) => {
  const { served } = await setUp(t);
  const transport = served.transport();
  const refused = { code: "operation.not_detachable" };
  await assert.rejects(transport.json("GET", "/v1/vms", { detach: true }), refused);
  const stream = { from: Readable.from(["a"]), contentType: "application/x-tar" };
  await assert.rejects(
    transport.json("PUT", "/v1/vms/web/files", { query: { path: "/" }, stream, detach: true }),
    refused,
  );
});

test("at most a hundred operations are kept, and short ones do not push out the result of a detached one", async (t) => {
  const { hearth, boot } = await setUp(t);
  boot();
  const { id } = await hearth.vm("web").start({ detach: true });
  await hearth.operations.result(id);
  for (let times = 0; times < 120; times++) await hearth.vm("web").exec(["true"]);
  const all = await hearth.operations.list();
  assert.equal(all.length, 101);
  assert.equal((await hearth.operations.result<Vm>(id)).phase, "running");
});

test("detached operations under way are limited, and one too many is not begun", async (t) => {
  const { served, hearth } = await setUp(t);
  const ensure: Images["ensure"] = (_ref, _onProgress, signal) => untilAborted(signal);
  Object.assign(served.host.images, { ensure });
  const build = () => hearth.images.build("debian", { detach: true });
  const many = await Promise.all(Array.from({ length: 100 }, build));
  await assert.rejects(build(), { code: "operation.too_many" });
  assert.equal((await hearth.operations.list()).length, 100);
  await hearth.operations.cancel(many[0]?.id ?? "");
  await hearth.operations.wait(many[0]?.id ?? "");
  assert.equal((await build()).state, "running");
});

test("waiting for an operation ends after the time that was asked for", async (t) => {
  const { served, hearth, boot } = await setUp(t);
  const { id } = await hearth.vm("web").start({ detach: true });
  const transport = served.transport();
  const asked = await transport.json<Operation>("GET", `/v1/operations/${id}`, { query: { wait: "5ms" } });
  assert.equal(asked.state, "running");
  await assert.rejects(transport.json("GET", `/v1/operations/${id}`, { query: { wait: "5" } }), /no unit/);
  boot();
});

test("each operation is in the log once, with who asked and how it ended", async (t) => {
  const { served, hearth, boot } = await setUp(t);
  boot();
  await hearth.vm("web").start();
  const lines = served.host.machine.events.filter(({ name }) => name === "operation.ended");
  assert.equal(lines.length, 1);
  assert.deepEqual(Object.assign({}, lines[0]?.fields, { operation: "", tookMs: 0 }), {
    operation: "",
    principal: "owner",
    request: "POST /v1/vms/web/start",
    state: "succeeded",
    tookMs: 0,
  });
});
