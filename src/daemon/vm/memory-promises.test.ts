import assert from "node:assert/strict";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { Turns } from "#base/turns.ts";
import { GIB, MIB } from "#base/sizes.ts";
import { MemoryPromises } from "#daemon/vm/memory-promises.ts";
import { LAYERED } from "#testing/fake-host.ts";
import { serveDaemon } from "#testing/served-daemon.ts";
import type { ServedDaemon } from "#testing/served-daemon.ts";

/** A hearthd with VMs of 1 GiB, which do not run. */
async function setUp(t: TestContext, names: readonly string[], config = ""): Promise<ServedDaemon> {
  const served = await serveDaemon(t, {
    config: `[warm]\nenabled = false\n[defaults]\nmemory = "1G"\n${config}`,
    features: LAYERED,
  });
  const { vms } = served.daemon;
  for (const name of names) await vms.create({ image: "debian", name }, false, vms.background());
  return served;
}

test("a VM whose memory the host does not have is refused with the numbers, stays as it was, and starts later", async (t) => {
  const served = await setUp(t, ["web"]);
  const { machine } = served.host;
  const web = (await served.client()).vm("web");
  machine.availableBytes = 512 * MIB;
  for (let tries = 0; tries < 2; tries++) {
    await assert.rejects(web.start(), {
      code: "host.memory_short",
      message: /^Cannot start web: it needs 1\.?0?G of memory\. The host has 512M available\.$/,
      hint: /hearth set web --memory SIZE/,
    });
    assert.equal((await web.show()).phase, "created");
  }
  assert.deepEqual(machine.vmms.running(), []);
  machine.availableBytes = GIB;
  assert.equal((await web.start()).phase, "running");
});

test("VMs that are starting count with what they were promised, until they have started", async (t) => {
  const served = await setUp(t, ["one", "two"]);
  const { host } = served;
  const hearth = await served.client();
  host.machine.availableBytes = 1.5 * GIB;
  host.guestFaults.silent = "guest";
  const leave = new AbortController();
  const first = assert.rejects(hearth.vm("one").start({ signal: leave.signal }), { name: "AbortError" });
  while (host.machine.vmms.running().length === 0) await new Promise((resolve) => setImmediate(resolve));
  await assert.rejects(hearth.vm("two").start(), /other starting VMs need 1\.?0?G of it/);
  leave.abort();
  await first;
  await served.daemon.vms.idle();
  delete host.guestFaults.silent;
  assert.equal((await hearth.vm("two").start()).phase, "running");
  // The memory of a running VM is no longer available, and is not counted twice.
  assert.equal((await hearth.vm("one").start()).phase, "running");
});

test("an internal VM in the background keeps no user's VM from starting, and is refused where it does not fit", () => {
  let availableBytes = 1.5 * GIB;
  const promises = new MemoryPromises({ admission: true, share: 100 }, () => availableBytes);
  const vm = (name: string, internal?: "background") =>
    ({ name, spec: { memoryBytes: GIB, internal } }) as Parameters<typeof promises.promise>[0];
  using _web = promises.promise(vm("web"), false);
  assert.throws(() => promises.promise(vm("template", "background"), false), { code: "host.memory_short" });
  availableBytes = 2.5 * GIB;
  using _template = promises.promise(vm("template", "background"), false);
  using _other = promises.promise(vm("other"), false);
  assert.throws(() => promises.promise(vm("third"), false), { code: "host.memory_short" });
});

test("a VM that waits for its turn to boot is promised nothing yet", async (t) => {
  const served = await setUp(t, ["one", "two"]);
  const { host } = served;
  host.boots = new Turns(1);
  host.machine.availableBytes = 1.5 * GIB;
  const hearth = await served.client();
  const phases = await Promise.all(["one", "two"].map(async (name) => (await hearth.vm(name).start()).phase));
  assert.deepEqual(phases, ["running", "running"]);
});

test("a VM that is resumed from its memory file needs a quarter, and a suspended one nothing", async (t) => {
  const served = await setUp(t, ["web"]);
  const { machine } = served.host;
  const web = (await served.client()).vm("web");
  await web.start();
  await web.suspend();
  machine.availableBytes = 255 * MIB;
  await assert.rejects(web.resume(), { code: "host.memory_short", message: /needs 256M/ });
  assert.equal((await web.show()).phase, "suspended");
  machine.availableBytes = 256 * MIB;
  assert.equal((await web.resume()).phase, "running");
});

test("the share that may be promised is a key, and admission can be switched off", async (t) => {
  const half = await setUp(t, ["web"], "[memory]\nshare = 50\n");
  half.host.machine.availableBytes = 1.5 * GIB;
  const message = /1\.5G available, of which VMs may use 50 %/;
  await assert.rejects((await half.client()).vm("web").start(), { code: "host.memory_short", message });
  const off = await setUp(t, ["web"], "[memory]\nadmission = false\n");
  off.host.machine.availableBytes = 0;
  assert.equal((await (await off.client()).vm("web").start()).phase, "running");
});
