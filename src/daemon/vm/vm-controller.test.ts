import assert from "node:assert/strict";
import { test } from "node:test";
import { handleOf } from "#model/vm-state.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import { useFakeDaemon } from "#testing/fake-daemon.ts";
import type { FakeDaemon } from "#testing/fake-daemon.ts";

function handleIn(daemon: FakeDaemon): VmHandle {
  return handleOf(daemon.host.store.getVm("web").state) ?? assert.fail("it has a VMM");
}

test("a VMM that ends while a stop fails is noticed, and what it had is released", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms } = daemon;
  const { id } = await daemon.run("web");
  const controller = vms.controllers.of(id);
  controller.send({ type: "stop-asked" });
  host.driver.crash(handleIn(daemon));
  assert.equal(controller.state.phase, "stopping", "the stop looks for itself, as long as it lasts");
  controller.send({ type: "stop-failed", back: "running" });
  assert.equal(host.store.getVm("web").state.phase, "failed");
  await controller.cleaned();
  assert.deepEqual(host.machine.walls.leftovers(), []);
});

test("a VMM that ends just before its start is stored is noticed", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms } = daemon;
  const { id } = await vms.create({ image: "debian", name: "web" }, false, vms.background());
  const { setState } = host.store;
  host.store.setState = (vm, state) => {
    if (state.phase === "running") host.driver.crash(state.handle);
    setState.call(host.store, vm, state);
  };
  await vms.start("web", vms.background());
  assert.equal(host.store.getVm("web").state.phase, "failed");
  await vms.controllers.of(id).cleaned();
  assert.deepEqual(host.machine.walls.leftovers(), []);
});

test("a state that cannot be stored does not become the VM's", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms } = daemon;
  const { id } = await daemon.run("web");
  const controller = vms.controllers.of(id);
  host.store.setState = () => {
    assert.equal(controller.state.phase, "running", "nobody reads a state that is not stored");
    throw new Error("disk full");
  };
  assert.throws(() => controller.send({ type: "paused" }));
  assert.equal(controller.state.phase, "running");
});

test("a stop that has left something is tried again by the next stop, until nothing is left", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms } = daemon;
  await daemon.run("web");
  const { removeCgroup } = host.helper;
  host.helper.removeCgroup = () => Promise.reject(new Error("EBUSY"));
  const stop = (): ReturnType<typeof vms.stop> =>
    vms.stop("web", { mode: "kill", timeoutMs: 0 }, vms.background());
  await assert.rejects(stop());
  await assert.rejects(stop());
  assert.equal(host.store.getVm("web").state.phase, "failed");
  host.helper.removeCgroup = removeCgroup;
  assert.equal((await stop()).state.phase, "stopped");
  assert.deepEqual(host.machine.walls.leftovers(), []);
});
