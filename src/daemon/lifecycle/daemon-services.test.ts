import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import type { ApiEvent } from "#api/events.ts";
import { HearthError } from "#base/error.ts";
import { Ending } from "#daemon/lifecycle/ending.ts";
import { handleOf } from "#model/vm-state.ts";
import { LAYERED } from "#testing/fake-host.ts";
import type { FakeMachine } from "#testing/fake-host.ts";
import { Gate } from "#testing/gate.ts";
import { ServedDaemon, serveDaemon } from "#testing/served-daemon.ts";

const STOPPING = { code: "daemon.stopping", hint: /VMs keep running/ };
const BROKEN_OFF = { code: "daemon.unreachable" };

/** The next hearthd on the same machine. */
async function next(t: TestContext, machine: FakeMachine): Promise<ServedDaemon> {
  const served = await new ServedDaemon(machine, { features: LAYERED }).listen();
  t.after(() => served.end());
  return served;
}

/** Resolves when `holds` returns true; it is called in each turn of the event loop. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await turn();
}

test("with everything open, hearthd ends in order, each client is told, and VMs run on for the next hearthd", async (t) => {
  const served = await serveDaemon(t, { features: LAYERED });
  const { host } = served;
  await served.run("web");
  await served.run("db");
  const hearth = await served.client();
  const web = hearth.vm("web");

  const seen: ApiEvent[] = [];
  const events = (async () => {
    for await (const event of hearth.events()) seen.push(event);
  })();
  const shell = await web.spawn(["endless"], { stdin: true, tty: { rows: 24, cols: 80, term: "xterm" } });
  const exec = await web.spawn(["endless"]);
  const run = await hearth.run({ vm: { image: "debian", autoRemove: true }, exec: { argv: ["endless"] } });
  const kept = await hearth.run({ vm: { image: "debian", name: "kept" }, exec: { argv: ["endless"] } });
  const copyOut = await web.readTar("/endless");
  copyOut.resume();
  const sent = new Readable({ read() {} });
  sent.push("the first part"); // A client sends nothing at all before that.
  const copyIn = web.writeTar("/endless", sent);
  const logs = await web.logs({ follow: true });
  logs.resume();
  const gate = new Gate();
  host.driver.faults.saveGate = gate;
  const snapshot = hearth.snapshots.create({ vm: "db", name: "half" });
  await gate.reached;
  await until(() => seen.length > 0);

  const told = Promise.all([
    ...[shell, exec, run, kept].map((command) => assert.rejects(command.exited, STOPPING)),
    ...[copyOut, logs].map((stream) => assert.rejects(text(stream), BROKEN_OFF)),
    assert.rejects(copyIn, STOPPING),
    assert.rejects(snapshot, STOPPING),
    events,
  ]);
  assert.equal(await served.end(), true);
  await told;
  assert.equal(seen.at(-1)?.type, "daemon.stopping");

  const after = await next(t, host.machine);
  const list = await (await after.client()).vms.list();
  assert.deepEqual(list.map(({ name, phase }) => `${name} ${phase}`).toSorted(), [
    "db running",
    "kept stopped",
    "web running",
  ]);
  assert.equal((await (await after.client()).vm("web").exec(["true"])).exitCode, 0);
  assert.deepEqual(await (await after.client()).snapshots.list(), []);
});

test("work that cannot be cancelled is waited for, and its client gets the answer", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const gate = new Gate();
  served.host.guestFaults.shutdownGate = gate;
  const stopped = (await served.client()).vm("web").stop();
  await gate.reached;
  const ended = served.end();
  gate.open();
  assert.equal((await stopped).phase, "stopped");
  assert.equal(await ended, true);
});

test("hearthd's own work on a VM is waited for before the store is closed", async (t) => {
  const served = await serveDaemon(t);
  const { host, daemon } = served;
  for (const name of ["web", "db"]) await served.run(name);
  const [web, db] = [host.store.getVm("web"), host.store.getVm("db")];
  const handle = handleOf(db.state) ?? assert.fail("it has a VMM");
  const [stop, release] = [new Gate(), new Gate()];
  host.guestFaults.shutdownGate = stop;
  const { vms } = daemon;
  // As at the end of a lifetime, and as after a VMM that has crashed.
  const controller = vms.controllers.of(web.id);
  const stopped = controller.act("stop", "wait", vms.background(), (signal) =>
    vms.controllers.stop(controller, { ...vms.background(), signal }),
  );
  await stop.reached;
  const { removeCgroup } = host.helper;
  host.helper.removeCgroup = async (id, signal) => {
    if (id === db.id) await release.pass(signal);
    return removeCgroup.call(host.helper, id, signal);
  };
  host.driver.crash(handle);
  await release.reached;
  const order: string[] = [];
  const { close } = host.store;
  host.store.close = () => {
    order.push("closed");
    close.call(host.store);
  };
  const ended = served.end();
  for (let turns = 0; turns < 100; turns++) await turn();
  stop.open();
  await stopped.then(() => order.push("stopped"));
  for (let turns = 0; turns < 100; turns++) await turn();
  release.open();
  assert.equal(await ended, true);
  assert.deepEqual(order, ["stopped", "closed"]);
  assert.deepEqual(host.machine.isolation.leftovers(), []);
});

test("clients whose work does not end in time are told, and nothing is closed below it", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const hearth = await served.client();
  const kept = await hearth.run({ vm: { image: "debian", name: "kept" }, exec: { argv: ["endless"] } });
  const gate = new Gate();
  served.host.guestFaults.shutdownGate = gate;
  const told = Promise.all([
    assert.rejects(kept.exited, STOPPING), // Its VM is being stopped.
    assert.rejects(hearth.vm("web").stop(), STOPPING),
  ]);
  await gate.reached;
  assert.equal(await served.end(50), false);
  await told;
  gate.open();
});

test("a request that is never sent whole does not delay the end", async (t) => {
  const served = await serveDaemon(t);
  const socket = await served.connect();
  socket.write(
    "POST /v1/vms HTTP/1.1\r\nHost: hearthd\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{",
  );
  await until(() => served.requests === 1);
  assert.equal(await served.end(), true);
});

test("a client that does not read its answer does not delay the end", async (t) => {
  const served = await serveDaemon(t);
  const socket = await served.connect();
  socket.write("GET /v1/events HTTP/1.1\r\nHost: hearthd\r\n\r\n");
  await until(() => served.requests === 1);
  socket.pause();
  const { bus } = served.host;
  for (let times = 0; times < 900; times++)
    bus.publish({ type: "vm.created", atMs: 0, id: "vm-x", name: "x".repeat(2_000), labels: {} });
  assert.equal(await served.end(), true);
});

test("an ending hearthd admits nothing, and blames its end only for cancelled work", () => {
  const ending = new Ending();
  const { signal } = ending.admit(new AbortController().signal);
  ending.begin("a test");
  ending.begin("again");
  assert.equal((signal.reason as HearthError).code, "daemon.stopping");
  assert.throws(() => ending.admit(new AbortController().signal), { code: "daemon.stopping" });
  const cancelled = new HearthError("operation.cancelled", "It was cancelled.");
  assert.equal((ending.explain(cancelled) as HearthError).code, "daemon.stopping");
  const failed = new HearthError("host.disk_full", "The disk is full.");
  assert.equal(ending.explain(failed), failed);
});
