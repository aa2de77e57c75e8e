/** Checks that a VM is shown as its VMM reports it, whatever has paused its vCPUs. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { TestContext } from "node:test";
import type { ApiEvent } from "#api/events.ts";
import { vmView } from "#daemon/view/vm-view.ts";
import type { VmmStatus } from "#drivers/vm-driver.ts";
import { handleOf } from "#model/vm-state.ts";
import { assertRuns } from "#testing/crash-story.ts";
import { FakeDaemon, useFakeDaemon } from "#testing/fake-daemon.ts";
import { FakeMachine } from "#testing/fake-host.ts";
import { Gate } from "#testing/gate.ts";

async function setUp(t: TestContext) {
  const daemon = await useFakeDaemon(t);
  const { host, vms } = daemon;
  await daemon.run("web");
  const events: ApiEvent[] = [];
  host.bus.subscribe((event) => events.push(event));
  const says = (...said: VmmStatus[]): void => {
    const handle = handleOf(host.store.getVm("web").state) ?? assert.fail("it has a VMM");
    for (const status of said) host.driver.tell(handle, status);
  };
  const shown = () => vmView(host, vms, host.store.getVm("web"));
  return { daemon, events, says, shown };
}

for (const [said, cause] of [
  ["paused", "vmm"],
  ["disk-full", "disk-full"],
  ["disk-failed", "disk-failed"],
] as const) {
  test(`a VM whose VMM says twice that it is ${said} is paused, with the cause, and can be resumed`, async (t) => {
    const { daemon, events, says, shown } = await setUp(t);
    says(said);
    assert.equal((await shown()).phase, "running", "one answer may be late");
    says(said);
    const { phase, pauseCause } = await shown();
    assert.deepEqual([phase, pauseCause], ["paused", cause]);
    const event = events.find(({ type }) => type === "vm.phase");
    assert.deepEqual(event?.type === "vm.phase" && [event.phase, event.cause], ["paused", cause]);
    assert.deepEqual(daemon.host.machine.events.filter(({ name }) => name === "vm.vcpus_stopped").length, 1);
    await daemon.vms.resume("web", daemon.vms.background());
    assert.deepEqual([(await shown()).phase, (await shown()).pauseCause], ["running", undefined]);
    await assertRuns(daemon, "web");
  });
}

test("a VM that is paused and whose VMM runs it is running", async (t) => {
  const { daemon, says, shown } = await setUp(t);
  await daemon.vms.pause("web", daemon.vms.background());
  says("running", "running");
  assert.equal((await shown()).phase, "running");
});

test("a VMM that cannot continue is ended, and its VM is failed with the reason", async (t) => {
  const { daemon, says } = await setUp(t);
  says("broken");
  assert.equal(daemon.host.store.getVm("web").state.phase, "running");
  says("broken");
  await new Promise(setImmediate);
  const { state, lastError } = daemon.host.store.getVm("web");
  assert.deepEqual([state.phase, state.phase === "failed" && state.code], ["failed", "vmm.failed"]);
  assert.match(lastError?.message ?? "", /internal error/);
  assert.deepEqual(daemon.host.machine.vmms.running(), []);
});

test("a status that a VMM reports during an action on its VM, or before it, has no effect", async (t) => {
  const { daemon, says, shown } = await setUp(t);
  const { vms } = daemon;
  says("paused"); // It was asked before the pause, and answered before the resume.
  await vms.pause("web", vms.background());
  await vms.resume("web", vms.background());
  says("paused");
  assert.equal((await shown()).phase, "running");
  const gate = new Gate();
  const live = vms.runExclusive("web", "snapshot", vms.background(), (_vm, _held, signal) =>
    gate.pass(signal),
  );
  await gate.reached;
  says("paused", "paused", "broken", "broken");
  gate.open();
  await live;
  assert.equal((await shown()).phase, "running");
  says("paused", "running", "paused", "running");
  assert.equal((await shown()).phase, "running");
});

test("a VM whose vCPUs are paused is shown as paused after a restart of hearthd", async () => {
  using machine = new FakeMachine();
  const daemon = await new FakeDaemon(machine).begin();
  await daemon.run("web");
  await daemon.end();
  machine.vmm("web").phase = "paused";
  const next = await new FakeDaemon(machine).begin();
  await new Promise(setImmediate); // The first heartbeat.
  const handle = handleOf(next.host.store.getVm("web").state) ?? assert.fail("it has a VMM");
  for (let times = 0; times < 2; times += 1) next.host.driver.tell(handle, "paused");
  assert.equal(next.host.store.getVm("web").state.phase, "paused");
  await next.end();
});
