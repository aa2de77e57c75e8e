import assert from "node:assert/strict";
import { test } from "node:test";
import type { TestContext } from "node:test";
import type { ApiEvent } from "#api/events.ts";
import { HearthError } from "#base/error.ts";
import { Turns } from "#base/turns.ts";
import { Vms } from "#daemon/vm/vms.ts";
import { handleOf } from "#model/vm-state.ts";
import type { VmRecord } from "#model/vm.ts";
import { FakeHost, FakeMachine } from "#testing/fake-host.ts";

function setUp(t: TestContext) {
  const machine = new FakeMachine();
  const host = new FakeHost(machine);
  const vms = new Vms(host);
  const events: ApiEvent[] = [];
  host.bus.subscribe((event) => events.push(event));
  t.after(() => {
    vms.detachAll();
    host.store.close();
    machine[Symbol.dispose]();
  });
  const create = (name: string): Promise<VmRecord> =>
    vms.create({ name, image: "debian" }, false, vms.background());
  return { machine, host, vms, events, create };
}

test("a VM is created, started, stopped and removed without a CLI", async (t) => {
  const { machine, vms, create } = setUp(t);
  assert.equal((await create("web")).state.phase, "created");
  assert.equal((await vms.start("web", vms.background())).state.phase, "running");
  const stopped = await vms.stop("web", { mode: "graceful", timeoutMs: 1_000 }, vms.background());
  assert.equal(stopped.state.phase, "stopped");
  await vms.remove("web", false, vms.background());
  assert.deepEqual(machine.leftovers(), []);
});

test("a VM starts again after it was stopped", async (t) => {
  const { vms, create } = setUp(t);
  await create("web");
  for (let round = 0; round < 3; round++) {
    await vms.start("web", vms.background());
    await vms.stop("web", { mode: "kill", timeoutMs: 0 }, vms.background());
  }
});

test("a start, a command and a copy are a use of the VM, and looking at it or stopping it is none", async (t) => {
  const { host, vms, create } = setUp(t);
  await create("web");
  const call = vms.background();
  const used = async (act: () => Promise<unknown>): Promise<boolean> => {
    const before = host.store.getVm("web").lastUsedAtMs;
    await act();
    return host.store.getVm("web").lastUsedAtMs > before;
  };
  assert.equal(await used(() => vms.start("web", call)), true, "start");
  assert.equal(await used(() => vms.guest("web", "exec", call.signal)), true, "exec");
  assert.equal(await used(() => vms.guest("web", "copy", call.signal)), true, "cp");
  assert.equal(await used(() => vms.set("web", { labels: { team: "web" } }, call)), false, "set");
  assert.equal(await used(() => vms.pause("web", call)), false, "pause");
  assert.equal(await used(() => vms.stop("web", { mode: "kill", timeoutMs: 0 }, call)), false, "stop");
});

test("of two creates with one name at the same time, one is refused", async (t) => {
  const { host, create } = setUp(t);
  const results = await Promise.allSettled([create("web"), create("web")]);
  assert.deepEqual(results.map(({ status }) => status).toSorted(), ["fulfilled", "rejected"]);
  const refused = results.find((result) => result.status === "rejected");
  const reason = refused?.reason as HearthError | undefined;
  assert.equal(reason?.code, "name.taken");
  assert.equal(host.store.listVms().length, 1);
});

test("a VM that no driver can run leaves no row", async (t) => {
  const { host, vms } = setUp(t);
  const request = { name: "web", image: "debian", driver: "none" };
  await assert.rejects(vms.create(request, false, vms.background()), { code: "input.invalid" });
  assert.deepEqual(host.store.listVms(), []);
});

test("an action that fails is published, and kept with the VM", async (t) => {
  const { host, vms, events, create } = setUp(t);
  await create("web");
  await vms.start("web", vms.background());
  host.driver.faults.stopError = new Error("the teardown broke");
  const stop = vms.stop("web", { mode: "kill", timeoutMs: 0 }, vms.background());
  await assert.rejects(stop, { code: "internal.bug" });
  const failed = events.find((event) => event.type === "vm.error");
  assert.equal(failed?.action, "stop");
  assert.match(host.store.getVm("web").lastError?.message ?? "", /the teardown broke/);
});

test("a VMM that dies unasked makes its VM failed, with the reason; it starts again", async (t) => {
  const { machine, host, vms, create } = setUp(t);
  await create("web");
  const vm = await vms.start("web", vms.background());
  const handle = handleOf(vm.state);
  assert.ok(handle);
  host.driver.crash(handle);
  assert.equal(host.store.getVm("web").state.phase, "failed");
  assert.match(host.store.getVm("web").lastError?.message ?? "", /SIGKILL/);
  await vms.start("web", vms.background());
  assert.equal(machine.vmms.running().length, 1);
});

test("a guest that powers itself off makes its VM stopped", async (t) => {
  const { host, vms, create } = setUp(t);
  await create("web");
  const handle = handleOf((await vms.start("web", vms.background())).state);
  assert.ok(handle);
  host.driver.powerOff(handle);
  const { state } = host.store.getVm("web");
  assert.equal(state.phase === "stopped" && state.exit.reason, "guest");
});

test("a boot that hangs is tried once more, and not a third time", async (t) => {
  const { machine, host, vms, create } = setUp(t);
  await create("web");
  host.guestFaults.unreachable = 1;
  await vms.start("web", vms.background());
  assert.equal(machine.vmms.running().length, 1);
  await vms.stop("web", { mode: "kill", timeoutMs: 0 }, vms.background());
  host.guestFaults.unreachable = 2;
  await assert.rejects(vms.start("web", vms.background()), { code: "vm.boot_failed" });
  assert.deepEqual(machine.vmms.running(), []);
});

test("a VMM that stays silent is shown as such, then killed, and its VM is failed with that reason", async (t) => {
  const { machine, host, vms, events, create } = setUp(t);
  const { id } = await create("web");
  const handle = handleOf((await vms.start("web", vms.background())).state);
  assert.ok(handle);
  host.driver.beSilent(handle, 10_000);
  assert.equal(vms.responsive(id), false);
  host.driver.beSilent(handle, 0);
  assert.equal(vms.responsive(id), true);
  assert.deepEqual(
    events.filter((event) => event.type === "vm.responsive").map((event) => event.responsive),
    [false, true],
  );
  host.driver.beSilent(handle, host.config.health.killAfterMs);
  await Promise.resolve();
  assert.deepEqual(machine.vmms.running(), []);
  const { state, lastError } = host.store.getVm(id);
  assert.equal(state.phase === "failed" && state.code, "vmm.unresponsive");
  assert.equal(lastError?.code, "vmm.unresponsive");
  await vms.start("web", vms.background());
  assert.equal(vms.responsive(id), true, "another VMM");
});

test("an action that fails says why, also when the store cannot keep it", async (t) => {
  const { machine, host, vms, create } = setUp(t);
  await create("web");
  host.driver.faults.bootError = new HearthError("vmm.failed", "QEMU does not start.");
  host.store.setError = () => {
    throw new HearthError("host.disk_full", "The disk is full.");
  };
  await assert.rejects(vms.start("web", vms.background()), /QEMU does not start|did not boot/);
  assert.ok(machine.events.some(({ name }) => name === "vm.error_not_kept"));
});

test("no event says that the VMM of an internal VM does not answer", async (t) => {
  const { host, vms, events, create } = setUp(t);
  const { id, spec } = await create("web");
  const handle = handleOf((await vms.start("web", vms.background())).state);
  assert.ok(handle);
  const told = (): number => events.filter(({ type }) => type === "vm.responsive").length;
  host.driver.beSilent(handle, 10_000);
  assert.equal(told(), 1);
  host.store.setSpec(id, { ...spec, internal: "background" });
  host.driver.beSilent(handle, 0);
  assert.equal(told(), 1);
});

test("a forced removal ends a start that is under way", async (t) => {
  const { machine, host, vms, create } = setUp(t);
  await create("web");
  host.driver.faults.bootHangs = true;
  const start = assert.rejects(vms.start("web", vms.background()), { code: "operation.taken_over" });
  await new Promise(setImmediate);
  await vms.remove("web", true, vms.background());
  await start;
  assert.deepEqual(machine.leftovers(), []);
  assert.deepEqual(host.store.listVms(), []);
});

test("of two forced removals at once both succeed, and a third one says that there is no such VM", async (t) => {
  const { vms, create } = setUp(t);
  await create("web");
  await Promise.all([1, 2].map(() => vms.remove("web", true, vms.background())));
  await assert.rejects(vms.remove("web", true, vms.background()), { code: "vm.not_found", message: /web/ });
});

test("a disk grows and never shrinks; what was not named stays as it was", async (t) => {
  const { host, vms, create } = setUp(t);
  const { spec } = await create("web");
  await vms.set("web", { diskBytes: spec.diskBytes * 2 }, vms.background());
  assert.deepEqual(host.store.getVm("web").spec, { ...spec, diskBytes: spec.diskBytes * 2 });
  await assert.rejects(vms.set("web", { diskBytes: spec.diskBytes }, vms.background()), {
    code: "input.invalid",
    message: /cannot shrink/,
  });
});

test("a VM whose image was removed while it was created is refused, and nothing of it is left", async (t) => {
  const { host, create } = setUp(t);
  const gone = new HearthError("image.not_found", "The image was removed meanwhile.");
  host.images.assertThere = () => {
    throw gone;
  };
  await assert.rejects(create("web"), gone);
  assert.deepEqual(host.store.listVms(), []);
  host.images.assertThere = () => {};
  await create("web"); // The name is free.
});

test("a VM boots when fewer others do, says so while it waits, and can be ended meanwhile", async (t) => {
  const { host, vms, create } = setUp(t);
  (host as { boots: Turns }).boots = new Turns(1);
  for (const name of ["web", "db"]) await create(name);
  const turn = await host.boots.take(t.signal);
  const told: string[] = [];
  const call = { ...vms.background(), onProgress: ({ text }: { text: string }) => void told.push(text) };
  const started = ["web", "db"].map((name) => vms.start(name, call));
  const taken = assert.rejects(started[1] ?? Promise.resolve(), { code: "operation.taken_over" });
  while (told.length < 2) await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(told, ["waiting for other VMs to boot", "waiting for other VMs to boot, 1 more waiting"]);
  assert.equal(host.store.getVm("db").state.phase, "starting");
  await vms.remove("db", true, vms.background());
  await taken;
  assert.ok(!host.driver.calls.some((one) => one.startsWith("boot ")), "nothing has booted so far");
  turn[Symbol.dispose]();
  assert.equal((await started[0])?.state.phase, "running");
});
