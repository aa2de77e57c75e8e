import assert from "node:assert/strict";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { IdleVms } from "#daemon/vm/idle-vms.ts";
import { assertRuns } from "#testing/crash-story.ts";
import { useFakeDaemon } from "#testing/fake-daemon.ts";
import { Gate } from "#testing/gate.ts";

const IDLE_MS = 60_000;

/** Runs `web` with an idle timeout of a minute; the clock moves only in `pass`. */
async function setUp(t: TestContext, idleTimeoutMs: number | null = IDLE_MS) {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const daemon = await useFakeDaemon(t);
  const { host, vms, snapshots } = daemon;
  let now = Date.now();
  let cpuTicks = 0;
  let uptimeMs = 0;
  host.now = () => now;
  host.uptimeMs = () => uptimeMs;
  host.processes.usage = () => ({ cpuTicks, rssBytes: 0, vszBytes: 0, ageMs: 0 });
  await vms.create(
    { name: "web", image: "debian", idleTimeoutMs: idleTimeoutMs ?? undefined },
    false,
    vms.background(),
  );
  await vms.start("web", vms.background());
  const idle = new IdleVms(host, vms, snapshots);
  idle.start();
  /** Lets so many seconds pass, in each of which the VMM uses so much of a CPU. */
  const pass = async (seconds: number, cpuShare = 0): Promise<void> => {
    for (let second = 0; second < seconds; second++) {
      now += 1_000;
      uptimeMs += 1_000;
      cpuTicks += cpuShare * 100;
      t.mock.timers.tick(1_000);
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  const setClock = (byMs: number): void => void (now += byMs);
  const falls = async (name = "web"): Promise<void> => {
    while (host.store.getVm(name).state.phase !== "suspended")
      await new Promise((resolve) => setImmediate(resolve));
  };
  const staysAwake = (): void => {
    assert.ok(!host.driver.calls.includes("pause"), "nobody has begun to save it");
    assert.equal(host.store.getVm("web").state.phase, "running");
  };
  return { daemon, host, vms, idle, pass, setClock, falls, staysAwake };
}

test("an idle VM is suspended when its time is over, and not sooner; the next request resumes it", async (t) => {
  const { daemon, idle, pass, falls, staysAwake } = await setUp(t);
  await pass(55, 0.05); // The CPU time of an emulated guest that waits.
  staysAwake();
  await pass(15, 0.05);
  await falls();
  await assertRuns(daemon, "web");
  await idle.end();
});

test(
  "a VM whose agent does not answer on its connection is asked on a new one, and is suspended",
  { timeout: 30_000 },
  async (t) => {
    const { daemon, host, idle, pass, falls } = await setUp(t);
    Object.assign(host.patience, { answerMs: 20, probeMs: 20 });
    host.guestFaults.silent = "connection";
    await pass(70);
    while (host.guestFaults.silent !== undefined) await pass(1); // Until it has a new connection.
    await pass(70);
    await falls();
    await assertRuns(daemon, "web");
    await idle.end();
  },
);

test("a VM that computes, runs a command, or was just used is not suspended; a minute after that it is", async (t) => {
  const { host, vms, idle, pass, falls, staysAwake } = await setUp(t);
  await pass(120, 0.5);
  staysAwake();
  host.guestFaults.execs = 1;
  await pass(120);
  staysAwake();
  host.guestFaults.execs = 0;
  await pass(50);
  await vms.guest("web", "copy", t.signal);
  await pass(50);
  staysAwake();
  await pass(25);
  await falls();
  await idle.end();
});

test("a VM without an idle timeout is never suspended by itself", async (t) => {
  const { idle, pass, staysAwake } = await setUp(t, null);
  await pass(200);
  staysAwake();
  await idle.end();
});

test("a VM that is paused is not saved by itself", async (t) => {
  const { host, vms, idle, pass } = await setUp(t);
  await vms.pause("web", vms.background());
  await pass(200);
  assert.ok(!host.driver.calls.includes("save"));
  await idle.end();
});

test("a VM that cannot be saved runs on, and that is noted", async (t) => {
  const { host, idle, pass } = await setUp(t);
  host.driver.faults.saveError = new Error("no such luck");
  await pass(70);
  while (!host.machine.events.some(({ name }) => name === "vm.not_suspended"))
    await new Promise((resolve) => setImmediate(resolve));
  assert.equal(host.machine.vmm("web").phase, "running");
  assert.equal(host.machine.vmm("web").guest.frozen, false);
  await idle.end();
});

test("a hearthd that ends while it suspends a VM resumes the VM, and waits for that", async (t) => {
  const { daemon, host, idle, pass } = await setUp(t);
  const gate = new Gate();
  host.driver.faults.finalizeGate = gate;
  await pass(70);
  await gate.reached;
  await idle.end();
  assert.deepEqual(host.snapshots.list(), []);
  assert.ok(!host.machine.events.some(({ name }) => name === "vm.not_suspended"), "nothing has failed");
  await assertRuns(daemon, "web");
});

test("a check of idle VMs that fails does not end hearthd, and the next one is made", async (t) => {
  const { host, idle, pass, falls } = await setUp(t);
  const { listVmsWithIdleTimeout } = host.store;
  host.store.listVmsWithIdleTimeout = () => {
    throw new Error("no such luck");
  };
  await pass(1);
  host.store.listVmsWithIdleTimeout = listVmsWithIdleTimeout;
  assert.ok(host.machine.events.some(({ name }) => name === "daemon.bug"));
  await pass(80);
  await falls();
  await idle.end();
});

test("a VM is not suspended during a copy, and its idle time begins when the copy is over", async (t) => {
  const { host, vms, idle, pass, falls, staysAwake } = await setUp(t);
  const { id } = host.store.getVm("web");
  const [one, other] = [vms.uses.begin(id), vms.uses.begin(id)];
  await pass(70);
  one[Symbol.dispose]();
  one[Symbol.dispose](); // Once is enough.
  await pass(70);
  staysAwake();
  other[Symbol.dispose]();
  await pass(50);
  staysAwake();
  await pass(20);
  await falls();
  await idle.end();
});

test("a VM that is used while another one is suspended keeps running", async (t) => {
  const { host, vms, idle, pass, falls, staysAwake } = await setUp(t);
  await pass(1);
  // It was made later, so it is looked at first.
  await vms.create({ name: "db", image: "debian", idleTimeoutMs: IDLE_MS / 2 }, false, vms.background());
  await vms.start("db", vms.background());
  const gate = new Gate();
  host.driver.faults.finalizeGate = gate;
  await pass(40);
  await gate.reached;
  await pass(40);
  await vms.guest("web", "copy", t.signal);
  gate.open();
  await falls("db");
  host.driver.calls.length = 0;
  await pass(50);
  staysAwake();
  await pass(20);
  await falls("web");
  await idle.end();
});

test("a VM that is used while its agent is asked what it does keeps running", async (t) => {
  const { vms, idle, pass, falls, staysAwake } = await setUp(t);
  await pass(55);
  const { connected } = vms;
  vms.connected = (id) => {
    vms.connected = connected;
    vms.controllers.of(id).touch();
    return connected.call(vms, id);
  };
  await pass(50);
  staysAwake();
  await pass(20);
  await falls();
  await idle.end();
});

test("no VM is suspended because the host's clock was set", async (t) => {
  const { idle, pass, setClock, falls, staysAwake } = await setUp(t);
  await pass(30);
  for (const byMs of [86_400_000, -2 * 86_400_000]) {
    setClock(byMs);
    await pass(50);
    staysAwake();
  }
  await pass(20);
  await falls();
  await idle.end();
});
