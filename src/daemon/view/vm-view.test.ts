import assert from "node:assert/strict";
import { test } from "node:test";
import { vmView, vmViews } from "#daemon/view/vm-view.ts";
import { FakeDaemon } from "#testing/fake-daemon.ts";
import { FakeMachine } from "#testing/fake-host.ts";

test("a VM that was read while it was recovered is shown as recovering, however long its driver takes", async (t) => {
  const machine = new FakeMachine();
  const daemon = await new FakeDaemon(machine).begin();
  t.after(() => {
    daemon.drop();
    machine[Symbol.dispose]();
  });
  const { host, vms } = daemon;
  const vm = await daemon.run("web");
  const features = await host.driver.features(t.signal);
  const [recovery, answer] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  host.driver.features = async () => {
    await answer.promise;
    return features;
  };
  const recovered = vms.controllers.recover(vm, () => recovery.promise);
  const views = [vmView(host, vms, vm), vmViews(host, vms, [vm]).then(([one]) => one)];
  recovery.resolve();
  await recovered;
  answer.resolve();
  for (const view of await Promise.all(views)) assert.equal(view?.recovering, true);
  assert.equal((await vmView(host, vms, vm)).recovering, undefined);
});
