import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { Gate } from "#testing/gate.ts";
import { serveDaemon } from "#testing/served-daemon.ts";

test("a VM whose restart has lost its client is not left stopped", async (t) => {
  const served = await serveDaemon(t);
  const { host, daemon } = served;
  await served.run("web");
  const gate = new Gate();
  host.driver.faults.bootGate = gate;
  const client = new AbortController();
  const request = served.transport().json("POST", "/v1/vms/web/restart", { body: {} }, client.signal);
  const left = assert.rejects(request);
  await gate.reached;
  client.abort(new Error("Ctrl-C"));
  await left;
  for (let turns = 0; turns < 100; turns++) await turn(); // hearthd sees that its client has gone.
  gate.open();
  await daemon.vms.idle();
  assert.equal(host.store.getVm("web").state.phase, "running");
});

test("a VM whose pause has lost its client is shown as what its VMM does", async (t) => {
  const served = await serveDaemon(t);
  const { host, daemon } = served;
  await served.run("web");
  const { pause } = host.driver;
  const gate = new Gate();
  host.driver.pause = async (handle, signal) => {
    await pause.call(host.driver, handle, signal);
    await gate.pass(signal); // The answer is on its way.
  };
  const client = new AbortController();
  const left = assert.rejects(
    served.transport().json("POST", "/v1/vms/web/pause", { body: {} }, client.signal),
  );
  await gate.reached;
  client.abort(new Error("Ctrl-C"));
  await left;
  await daemon.vms.idle();
  const { state } = host.store.getVm("web");
  assert.ok(state.phase === "running");
  for (let beats = 0; beats < 2; beats++) host.driver.tell(state.handle, "paused");
  assert.equal(host.store.getVm("web").state.phase, "paused");
});
