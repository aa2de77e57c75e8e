import assert from "node:assert/strict";
import { test } from "node:test";
import type { StartStage } from "#model/start-stage.ts";
import { Gate } from "#testing/gate.ts";
import { serveDaemon } from "#testing/served-daemon.ts";

test("a command's exit code arrives, and its VM ends, though the VM is busy when the command ends", async (t) => {
  const served = await serveDaemon(t);
  const { host } = served;
  const { vms } = served.daemon;
  host.guestFaults.exitCode = 7;
  const gate = new Gate();
  const { guest } = vms;
  vms.guest = async (...args) => {
    const found = await guest.apply(vms, args);
    void vms.runExclusive("ci", "snapshot", vms.background(), (_vm, _held, signal) => gate.pass(signal));
    await gate.reached;
    return found;
  };
  const { stop } = vms;
  vms.stop = (...args) => {
    const stopped = stop.apply(vms, args);
    gate.open(); // The command has ended, and the end of its VM waits.
    return stopped;
  };
  const hearth = await served.client();
  const run = await hearth.run({ vm: { image: "debian", name: "ci" }, exec: { argv: ["false"] } });
  const { exitCode } = await run.exited;
  assert.equal(exitCode, 7);
  assert.equal(host.store.getVm("ci").state.phase, "stopped");
});

test("a command's exit code arrives though its VM cannot be removed", async (t) => {
  const served = await serveDaemon(t);
  const { host } = served;
  host.guestFaults.exitCode = 7;
  const { removeTree } = host.files;
  host.files.removeTree = () => Promise.reject(new Error("EBUSY"));
  const hearth = await served.client();
  const run = await hearth.run({ vm: { image: "debian", autoRemove: true }, exec: { argv: ["false"] } });
  const { exitCode } = await run.exited;
  assert.equal(exitCode, 7);
  host.files.removeTree = removeTree;
  const left = host.machine.events.filter(({ name }) => name === "vm.run_not_ended");
  assert.equal(left.length, 1);
});

test("a run tells how long each stage of its VM's start took, and so does show while the VM runs", async (t) => {
  const served = await serveDaemon(t);
  const hearth = await served.client();
  const told: string[] = [];
  const request = { vm: { image: "debian", name: "ci" }, exec: { argv: ["true"] } };
  const run = await hearth.run(request, { onVm: ({ name }) => void told.push(name) });
  await run.exited;
  assert.deepEqual(told, ["ci"], "once");
  const stagesOf = (vm: { startStages?: readonly StartStage[] | undefined } | undefined): string[] =>
    (vm?.startStages ?? []).map(({ stage, tookMs }) => (assert.ok(tookMs >= 0), stage));
  assert.deepEqual(stagesOf(run.vm), ["host", "disk", "vmm", "guest", "identity"]);
  await served.run("web");
  const web = hearth.vm("web");
  assert.deepEqual(stagesOf(await web.show()), ["host", "disk", "vmm", "guest", "identity"]);
  await web.stop();
  assert.deepEqual(stagesOf(await web.show()), []);
});
