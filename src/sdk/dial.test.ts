import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { buffer } from "node:stream/consumers";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { ECHO_PORT } from "#testing/fake-guest.ts";
import { serveDaemon } from "#testing/served-daemon.ts";

test("bytes go both ways to a port of a guest, more than fit a window, and one end ends before the other", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const stream = await (await served.client()).vm("web").dial(ECHO_PORT);
  const sent = randomBytes(5 * 1024 * 1024);
  stream.end(sent);
  assert.ok((await buffer(stream)).equals(sent));
});

test("a port where nothing listens, a VM that is not there, and a port that is none are errors", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  await served.runAndStop("off");
  const client = await served.client();
  await assert.rejects(client.vm("web").dial(81), { code: "agent.failed", message: /nothing answers/ });
  await assert.rejects(client.vm("gone").dial(ECHO_PORT), { code: "vm.not_found" });
  await assert.rejects(client.vm("off").dial(ECHO_PORT), { code: "vm.wrong_phase" });
  await assert.rejects(client.vm("web").dial(70_000), { code: "input.invalid" });
});

test("a connection is a use of its VM, until its client leaves", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const client = await served.client();
  const { uses } = served.daemon.vms;
  const { id } = served.host.store.getVm("web");
  const left = await client.vm("web").dial(ECHO_PORT);
  assert.ok(uses.has(id));
  left.destroy();
  while (uses.has(id)) await setImmediate();
});
