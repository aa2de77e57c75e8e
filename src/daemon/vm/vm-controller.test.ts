import assert from "node:assert/strict";
import { test } from "node:test";
import { parseSnapshotName } from "#model/ids.ts";
import { handleOf } from "#model/vm-state.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import { useFakeDaemon } from "#testing/fake-daemon.ts";
import type { FakeDaemon } from "#testing/fake-daemon.ts";
import { LAYERED } from "#testing/fake-host.ts";

function handleIn(daemon: FakeDaemon): VmHandle {
  return handleOf(daemon.host.store.getVm("web").state) ?? assert.fail("it has a VMM");
}

test("a VMM that ends while a stop fails is noticed, and its resources are released", async (t) => {
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
  assert.deepEqual(host.machine.isolation.leftovers(), []);
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
  assert.deepEqual(host.machine.isolation.leftovers(), []);
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
  assert.deepEqual(host.machine.isolation.leftovers(), []);
});

test("a guest that powers off after a kill of its VMM has failed is stopped, and not failed", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host } = daemon;
  await daemon.run("web");
  const handle = handleIn(daemon);
  host.driver.faults.stopError = new Error("The process cannot be signalled.");
  host.driver.beSilent(handle, host.config.health.killAfterMs);
  await new Promise(setImmediate);
  host.driver.beSilent(handle, 0);
  assert.equal(host.store.getVm("web").state.phase, "running");
  host.driver.powerOff(handle);
  assert.equal(host.store.getVm("web").state.phase, "stopped");
});

test("the disk of a VM whose VMM has no session is not copied", async (t) => {
  const daemon = await useFakeDaemon(t, { features: LAYERED });
  const { host, vms, snapshots } = daemon;
  const { id } = await daemon.run("web");
  let isCopied = false;
  Object.assign(host.disks, { freeze: async () => (isCopied = true) });
  vms.controllers.of(id).closeSession();
  const how = { kind: "named", name: parseSnapshotName("s1"), diskOnly: true } as const;
  await assert.rejects(snapshots.create("web", how, vms.background()), { code: "internal.bug" });
  assert.equal(isCopied, false, "its guest writes to it");
});

test("a kill ends the VMM of an action that listens to nothing else", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms } = daemon;
  await daemon.run("web");
  const begun = Promise.withResolvers<void>();
  const deaf = vms.runExclusive("web", "snapshot", vms.background(), async (_vm, live) => {
    begun.resolve();
    await live?.attachment.ended;
  });
  await begun.promise;
  await vms.kill("web", "kill", vms.background());
  await deaf;
  assert.deepEqual(host.machine.vmms.running(), []);
});
