import assert from "node:assert/strict";
import { test } from "node:test";
import { handleOf } from "#model/vm-state.ts";
import { FakeDaemon, useFakeDaemon } from "#testing/fake-daemon.ts";
import { FakeMachine } from "#testing/fake-host.ts";

const RESTARTED = { image: "debian", restart: "always" } as const;

function crash({ host }: FakeDaemon, name = "web"): void {
  host.driver.crash(handleOf(host.store.getVm(name).state) ?? assert.fail(`${name} has a VMM`));
}

/** Resolves when the VM is in this phase. */
async function reaches({ host }: FakeDaemon, phase: string, name = "web"): Promise<void> {
  if (host.store.getVm(name).state.phase === phase) return;
  const reached = Promise.withResolvers<void>();
  using _following = host.bus.subscribe((event) => {
    if (event.type === "vm.phase" && event.name === name && event.phase === phase) reached.resolve();
  });
  await reached.promise;
}

/** The waits before the restarts so far. */
function waits(daemon: FakeDaemon): number[] {
  const told = daemon.host.machine.events.filter(({ name }) => name === "vm.restarts");
  return told.map(({ fields }) => (fields as { afterMs: number }).afterMs);
}

/** hearthd with restarts that come at once, and ask for the usual time. */
function hastily(daemon: FakeDaemon): FakeDaemon {
  daemon.vms.restarts.delayMs = (before) => before;
  return daemon;
}

test("a VM that is always to run is started again after its VMM died, and not after a stop", async (t) => {
  const daemon = hastily(await useFakeDaemon(t));
  const { vms } = daemon;
  await daemon.run("web", 0, RESTARTED);
  for (let times = 0; times < 3; times++) {
    crash(daemon);
    await reaches(daemon, "running");
    await vms.idle();
  }
  assert.deepEqual(waits(daemon), [0, 1, 2], "each comes later than the one before");
  await vms.stop("web", { mode: "kill", timeoutMs: 0 }, vms.background());
  assert.equal(daemon.host.store.getVm("web").desired, "stopped");
  await vms.restarts.end();
  assert.equal(daemon.host.store.getVm("web").state.phase, "stopped");
});

test("a VM that is started again on failure stays down after a power-off from inside", async (t) => {
  const daemon = hastily(await useFakeDaemon(t));
  await daemon.run("web", 0, { image: "debian", restart: "on-failure" });
  crash(daemon);
  await reaches(daemon, "running");
  const { vmms } = daemon.host.machine;
  vmms.end(daemon.host.machine.vmm("web"), { reason: "guest", atMs: Date.now() });
  await reaches(daemon, "stopped");
  assert.deepEqual(waits(daemon), [0]);
});

test("a VM whose guest reboots is started again at once, and later each time that it does so in a row", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { vms, host } = daemon;
  vms.restarts.delayMs = (before) => 2 * before;
  await daemon.run("web");
  for (let times = 0; times < 3; times++) {
    host.machine.vmms.end(host.machine.vmm("web"), { reason: "rebooted", code: 0, atMs: Date.now() });
    await reaches(daemon, "running");
    await vms.idle();
  }
  assert.deepEqual(waits(daemon), [0, 2, 4]);
  await vms.stop("web", { mode: "kill", timeoutMs: 0 }, vms.background());
  assert.equal(host.store.getVm("web").state.phase, "stopped");
});

test("a reboot is reported with its reason, and a lifetime or a removal at the end is not put off by it", async (t) => {
  const daemon = hastily(await useFakeDaemon(t));
  const { host } = daemon;
  const reasons: unknown[] = [];
  using _following = host.bus.subscribe((event) => {
    if (event.type === "vm.phase" && event.phase === "stopped") reasons.push([event.name, event.reason]);
  });
  await daemon.run("timed", 0, { image: "debian", lifetimeMs: 60_000 });
  await daemon.run("once", 0, { image: "debian", autoRemove: true });
  for (const name of ["timed", "once"])
    host.machine.vmms.end(host.machine.vmm(name), { reason: "rebooted", atMs: Date.now() });
  await daemon.vms.idle();
  assert.deepEqual(reasons, [
    ["timed", "rebooted"],
    ["once", "rebooted"],
  ]);
  assert.equal(host.store.getVm("timed").state.phase, "stopped");
  assert.equal(host.store.findVm("once"), undefined);
  assert.deepEqual(waits(daemon), []);
});

test("a stop before the restart comes is the last word", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { vms, host } = daemon;
  await daemon.run("web", 0, RESTARTED);
  const due = Promise.withResolvers<void>();
  vms.restarts.delayMs = () => (due.resolve(), 50);
  crash(daemon);
  await due.promise;
  await vms.stop("web", { mode: "graceful", timeoutMs: 10 }, vms.background());
  const controller = vms.controllers.of(host.store.getVm("web").id);
  const { act } = controller;
  const asked = Promise.withResolvers<void>();
  controller.act = (...args) => act.apply(controller, args).finally(() => asked.resolve()) as Promise<never>;
  await asked.promise;
  assert.equal(host.store.getVm("web").state.phase, "failed");
  assert.deepEqual(host.machine.vmms.running(), []);
});

test("a restart that fails is tried again, later", async (t) => {
  const daemon = hastily(await useFakeDaemon(t));
  const { host } = daemon;
  await daemon.run("web", 0, RESTARTED);
  host.guestFaults.unreachable = 2;
  crash(daemon);
  await reaches(daemon, "running");
  assert.deepEqual(waits(daemon), [0, 1, 2].slice(0, waits(daemon).length));
  assert.ok(waits(daemon).length >= 2, "the first one had failed");
});

test("after a reboot of the host the next hearthd starts what is always to run, and nothing else", async (t) => {
  const machine = new FakeMachine();
  const before = await new FakeDaemon(machine).begin();
  await before.run("always", 0, RESTARTED);
  await before.run("stopped", 0, RESTARTED);
  await before.run("no");
  await before.run("on-failure", 0, { image: "debian", restart: "on-failure" });
  await before.vms.stop("stopped", { mode: "kill", timeoutMs: 0 }, before.vms.background());
  before.drop();
  for (const vmm of machine.vmms.running()) machine.vmms.end(vmm, { reason: "died", atMs: Date.now() });
  const daemon = await new FakeDaemon(machine).begin();
  t.after(async () => {
    await daemon.end();
    machine[Symbol.dispose]();
  });
  daemon.vms.restarts.begin();
  await reaches(daemon, "running", "always");
  assert.deepEqual(
    daemon.host.store
      .listVms()
      .map(({ name, state }) => `${name} ${state.phase}`)
      .toSorted(),
    ["always running", "no stopped", "on-failure stopped", "stopped stopped"],
  );
});

test("no restart begins once hearthd ends", async (t) => {
  const daemon = hastily(await useFakeDaemon(t));
  await daemon.run("web", 0, RESTARTED);
  await daemon.vms.restarts.end();
  crash(daemon);
  assert.deepEqual(waits(daemon), []);
});

test("a VM that is removed when it ends has no restart policy", async (t) => {
  const { vms } = await useFakeDaemon(t);
  const request = { ...RESTARTED, autoRemove: true };
  await assert.rejects(vms.create(request, false, vms.background()), { code: "input.invalid" });
  await vms.create({ image: "debian", name: "web", autoRemove: true }, false, vms.background());
  await assert.rejects(vms.set("web", { restart: "always" }, vms.background()), { code: "input.invalid" });
});
