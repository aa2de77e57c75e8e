/** Ends VMs whatever action is under way, and checks that a failed stop does not end one. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { HearthError } from "#base/error.ts";
import { parseSnapshotName } from "#model/ids.ts";
import { handleOf } from "#model/vm-state.ts";
import { assertRuns } from "#testing/crash-story.ts";
import { useFakeDaemon } from "#testing/fake-daemon.ts";
import type { FakeDaemon } from "#testing/fake-daemon.ts";
import { LAYERED } from "#testing/fake-host.ts";
import { Gate } from "#testing/gate.ts";

const MINUTE_MS = 60_000;
const HOUR = { mode: "graceful", timeoutMs: 3_600_000 } as const;

function phaseOf({ host }: FakeDaemon): string {
  return host.store.getVm("web").state.phase;
}

/** A stop that waits for a guest which does not power off. */
async function stopForAnHour({ host, vms }: FakeDaemon): Promise<void> {
  const gate = new Gate();
  host.guestFaults.shutdownGate = gate;
  vms.stop("web", HOUR, vms.background()).catch(() => undefined); // Of what takes over.
  await gate.reached;
}

for (const [how, end] of [
  ["a kill", ({ vms }: FakeDaemon) => vms.kill("web", "kill", vms.background())],
  ["a SIGTERM", ({ vms }: FakeDaemon) => vms.kill("web", "terminate", vms.background())],
  ["a forced removal", ({ vms }: FakeDaemon) => vms.remove("web", true, vms.background())],
] as const) {
  test(`${how} does not wait for a stop that gives the guest an hour`, async (t) => {
    const daemon = await useFakeDaemon(t);
    await daemon.run("web");
    await stopForAnHour(daemon);
    await end(daemon);
    assert.deepEqual(daemon.host.machine.vmms.running(), []);
    assert.deepEqual(daemon.host.journals.listOpen(), []);
  });
}

test("a kill of a VM that is being started ends the start, and has succeeded", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms } = daemon;
  await vms.create({ name: "web", image: "debian" }, false, vms.background());
  host.driver.faults.bootHangs = true;
  const start = assert.rejects(vms.start("web", vms.background()), { code: "operation.taken_over" });
  await new Promise(setImmediate);
  const killed = await vms.kill("web", "kill", vms.background());
  assert.equal(killed.state.phase, "created");
  await start;
  assert.equal((await vms.kill("web", "kill", vms.background())).state.phase, "created", "nothing is to end");
});

test("a start of a VM whose start is under way waits for it, and has succeeded", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms } = daemon;
  await vms.create({ name: "web", image: "debian" }, false, vms.background());
  const gate = new Gate();
  host.driver.faults.bootGate = gate;
  const first = vms.start("web", vms.background());
  await gate.reached;
  const second = vms.start("web", vms.background());
  const fresh = assert.rejects(vms.start("web", vms.background(), { fresh: true }), {
    code: "vm.wrong_phase",
  });
  const left = new AbortController();
  const third = assert.rejects(vms.start("web", vms.background(left.signal)), {
    code: "operation.cancelled",
  });
  left.abort(new HearthError("operation.cancelled", "It is not wanted."));
  await third;
  gate.open();
  assert.deepEqual(
    (await Promise.all([first, second])).map(({ state }) => state.phase),
    ["running", "running"],
  );
  await fresh;
  assert.deepEqual(host.driver.calls, ["boot web"]);
  assert.equal(
    host.store.getVm("web").lastError?.code,
    "vm.wrong_phase",
    "of the one that was to begin anew",
  );
});

test("of two starts the second starts the VM when the first fails, or is cancelled", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms } = daemon;
  await vms.create({ name: "web", image: "debian" }, false, vms.background());
  for (const spoil of [
    (gate: Gate, _left: AbortController) => {
      host.driver.faults.bootError = new Error("it does not boot");
      gate.open();
    },
    (_gate: Gate, left: AbortController) => left.abort(new Error("not wanted")),
  ]) {
    const [gate, left] = [new Gate(), new AbortController()];
    host.driver.faults.bootGate = gate;
    const first = assert.rejects(vms.start("web", vms.background(left.signal)));
    await gate.reached;
    const second = vms.start("web", vms.background());
    spoil(gate, left);
    await first;
    assert.equal((await second).state.phase, "running");
    await vms.stop("web", { mode: "kill", timeoutMs: 0 }, vms.background());
  }
});

test("a start after a restart that is under way waits for it", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms } = daemon;
  await daemon.run("web");
  const gate = new Gate();
  host.guestFaults.shutdownGate = gate;
  const restart = vms.restart("web", HOUR, vms.background());
  await gate.reached;
  const start = vms.start("web", vms.background());
  gate.open();
  await restart;
  assert.equal((await start).state.phase, "running");
});

for (const [what, fault] of [
  ["stop", "shutdownGate"],
  ["snapshot", "saveGate"],
] as const) {
  test(`of two kills during a ${what} both succeed, and the VMM is gone`, async (t) => {
    const daemon = await useFakeDaemon(t, { features: LAYERED });
    const { host, vms, snapshots } = daemon;
    await daemon.run("web");
    const gate = new Gate();
    if (fault === "saveGate") host.driver.faults.saveGate = gate;
    else host.guestFaults.shutdownGate = gate;
    const call = vms.background();
    const acting =
      what === "stop"
        ? vms.stop("web", { mode: "graceful", timeoutMs: 3_600_000 }, call)
        : snapshots.create("web", { kind: "named", name: parseSnapshotName("half") }, call);
    const ended = acting.catch((error: unknown) => error);
    await gate.reached;
    const kills = await Promise.all([1, 2].map(() => vms.kill("web", "kill", vms.background())));
    assert.deepEqual(
      kills.map(({ state }) => state.phase),
      ["stopped", "stopped"],
    );
    assert.deepEqual(host.machine.vmms.running(), []);
    gate.open();
    await ended;
    assert.equal(host.store.getVm("web").state.phase, "stopped");
  });
}

for (const [what, diskOnly] of [
  ["a snapshot", false],
  ["a snapshot of the disk alone", true],
] as const) {
  test(`a kill does not wait for the copy of the disk in ${what}`, async (t) => {
    const daemon = await useFakeDaemon(t, { features: LAYERED });
    const { host, vms, snapshots } = daemon;
    await daemon.run("web");
    const copy = new Gate();
    Object.assign(host.disks, {
      freeze: (_from: string, _to: string, signal: AbortSignal) => copy.pass(signal),
    });
    const how = { kind: "named", name: parseSnapshotName("half"), diskOnly } as const;
    const failed = assert.rejects(snapshots.create("web", how, vms.background()));
    await copy.reached;
    assert.equal((await vms.kill("web", "kill", vms.background())).state.phase, "stopped");
    await failed;
    assert.deepEqual(host.snapshots.list(), []);
  });
}

test("a kill comes before an exec that waits for a VM to be suspended", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms, snapshots } = daemon;
  await daemon.run("web");
  const gate = new Gate();
  host.driver.faults.saveGate = gate;
  const suspend = snapshots.suspend("web", vms.background()).catch((error: unknown) => error);
  await gate.reached;
  const exec = vms.guest("web", "exec", new AbortController().signal).catch((error: unknown) => error);
  const kill = vms.kill("web", "kill", vms.background());
  gate.open();
  await Promise.all([suspend, exec, kill]);
  assert.equal(phaseOf(daemon), "stopped");
  assert.deepEqual(host.machine.vmms.running(), []);
});

test("a VM runs on when its stop fails, is not stopped by the next hearthd, and is seen when it ends", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms } = daemon;
  await daemon.run("web");
  host.driver.faults.stopError = new Error("it does not end");
  await assert.rejects(vms.stop("web", { mode: "kill", timeoutMs: 0 }, vms.background()));
  host.driver.faults.stopError = undefined;
  assert.equal(phaseOf(daemon), "running");
  assert.deepEqual(host.journals.listOpen(), []);
  await assertRuns(daemon, "web");
  host.driver.crash(handleOf(host.store.getVm("web").state) ?? assert.fail("it has a VMM"));
  assert.equal(phaseOf(daemon), "failed");
  await vms.start("web", vms.background());
  await assertRuns(daemon, "web");
});

test("a paused VM whose VMM cannot resume it is stopped all the same", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms } = daemon;
  await daemon.run("web");
  await vms.pause("web", vms.background());
  host.driver.resume = () => Promise.reject(new Error("it does not answer"));
  host.guestFaults.silent = "guest";
  await vms.stop("web", { mode: "graceful", timeoutMs: 20 }, vms.background());
  assert.equal(phaseOf(daemon), "stopped");
});

for (const [mode, phase] of [
  ["kill", "paused"],
  ["graceful", "running"],
] as const) {
  test(`a paused VM whose ${mode} stop fails is shown as what its VMM does: ${phase}`, async (t) => {
    const daemon = await useFakeDaemon(t);
    const { host, vms } = daemon;
    await daemon.run("web");
    await vms.pause("web", vms.background());
    host.guestFaults.silent = "guest";
    host.driver.faults.stopError = new Error("it does not end");
    await assert.rejects(vms.stop("web", { mode, timeoutMs: 20 }, vms.background()));
    assert.deepEqual([phaseOf(daemon), host.machine.vmm("web").phase], [phase, phase]);
    delete host.guestFaults.silent;
    await vms.stop("web", { mode: "graceful", timeoutMs: 1_000 }, vms.background());
    assert.equal(phaseOf(daemon), "stopped");
  });
}

test("a stop whose VMM ended and left something is failed, and the next start cleans up", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms } = daemon;
  await daemon.run("web", 2);
  const { removeCgroup } = host.helper;
  host.helper.removeCgroup = () => Promise.reject(new Error("EBUSY"));
  await assert.rejects(vms.stop("web", { mode: "kill", timeoutMs: 0 }, vms.background()));
  const { state } = host.store.getVm("web");
  assert.deepEqual([state.phase, state.phase === "failed" && state.code], ["failed", "vm.unclean"]);
  host.helper.removeCgroup = removeCgroup;
  await vms.start("web", vms.background());
  await assertRuns(daemon, "web");
});

/** A VM whose lifetime is over when `expire` is called, and a promise of its end. */
async function runForAMinute(t: TestContext) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const daemon = await useFakeDaemon(t);
  const { host } = daemon;
  const { promise: stopped, resolve } = Promise.withResolvers<void>();
  host.bus.subscribe((event) => {
    if (event.type === "vm.phase" && event.phase === "stopped") resolve();
  });
  await daemon.run("web", 0, { image: "debian", lifetimeMs: MINUTE_MS });
  return { daemon, stopped, expire: () => t.mock.timers.tick(2 * MINUTE_MS) };
}

test("a lifetime that ends during another action ends the VM after it", async (t) => {
  const { daemon, stopped, expire } = await runForAMinute(t);
  const { vms } = daemon;
  const gate = new Gate();
  const live = vms.runExclusive("web", "snapshot", vms.background(), async (_vm, _held, signal) =>
    gate.pass(signal),
  );
  await gate.reached;
  expire();
  assert.equal(phaseOf(daemon), "running", "nothing is done to it meanwhile");
  gate.open();
  await live;
  await stopped;
});

test("a VM whose stop fails at the end of its lifetime is stopped a little later", async (t) => {
  const { daemon, stopped, expire } = await runForAMinute(t);
  const { host, vms } = daemon;
  const { stop } = vms.controllers;
  vms.controllers.stop = async () => {
    vms.controllers.stop = stop;
    throw new Error("The disk is full.");
  };
  expire();
  while (!host.machine.events.some(({ name }) => name === "vm.lifetime_not_ended"))
    await new Promise((resolve) => setImmediate(resolve));
  assert.equal(phaseOf(daemon), "running");
  expire();
  await stopped;
});
