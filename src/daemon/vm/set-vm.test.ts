import assert from "node:assert/strict";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { MIB } from "#base/sizes.ts";
import { Vms } from "#daemon/vm/vms.ts";
import type { DeviceLimits } from "#drivers/vm-driver.ts";
import { INTERNET } from "#model/network-policy.ts";
import { FakeHost, FakeMachine } from "#testing/fake-host.ts";
import { Gate } from "#testing/gate.ts";

const LIMIT = { bandwidthBytesPerS: MIB, opsPerS: 100 };

async function setUp(t: TestContext) {
  const machine = new FakeMachine();
  const host = new FakeHost(machine);
  const vms = new Vms(host);
  t.after(() => {
    vms.detachAll();
    host.store.close();
    machine[Symbol.dispose]();
  });
  const request = { name: "web", image: "debian", network: "none", memoryBytes: 512 * MIB } as const;
  await vms.create({ ...request, diskLimit: LIMIT }, false, vms.background());
  const vmm = () => machine.vmms.running()[0];
  const set = (change: Parameters<Vms["set"]>[1]) => vms.set("web", change, vms.background());
  return { machine, host, vms, set, vmm, spec: () => host.store.getVm("web").spec };
}

test("limits apply from the boot on, change while the VM runs, and are removed by null", async (t) => {
  const { vms, set, vmm, spec } = await setUp(t);
  const limits = () => {
    const disks: DeviceLimits["disks"] = vmm()?.limits.disks ?? {};
    assert.equal(disks["base"], undefined, "what VMs share is not limited");
    return disks["own"];
  };
  await vms.start("web", vms.background());
  assert.deepEqual(limits(), LIMIT);
  const other = { opsPerS: 50 };
  await set({ diskLimit: other });
  assert.deepEqual(limits(), other);
  await set({ diskLimit: null });
  assert.equal(limits(), undefined);
  assert.equal(spec().diskLimit, undefined);
});

test("a limit that the driver lacks is refused, naming none or those that can, and nothing is changed", async (t) => {
  const { host, vms, set, spec } = await setUp(t);
  host.driver.description = { ...host.driver.description, limits: { disk: true, net: false } };
  await vms.start("web", vms.background());
  const before = spec();
  await assert.rejects(set({ netLimit: LIMIT }), { code: "feature.missing", hint: /Leave --net-limit out/ });
  const other = { name: "other", image: "debian", netLimit: LIMIT };
  await assert.rejects(vms.create(other, false, vms.background()), { code: "feature.missing" });
  assert.equal(host.store.findVm("other"), undefined);
  assert.deepEqual(spec(), before);
});

test("memory of a VM that runs goes down, and up to what it was started with, also after it went down", async (t) => {
  const { vms, set, vmm, spec } = await setUp(t);
  await vms.start("web", vms.background());
  await set({ memoryBytes: 256 * MIB });
  assert.deepEqual([vmm()?.memoryBytes, spec().memoryBytes], [256 * MIB, 256 * MIB]);
  await set({ memoryBytes: 512 * MIB });
  await assert.rejects(set({ memoryBytes: 513 * MIB }), {
    code: "input.invalid",
    message: /was started with 512M/,
    hint: /hearth stop web/,
  });
  assert.deepEqual([vmm()?.memoryBytes, spec().memoryBytes], [512 * MIB, 512 * MIB]);
});

test("a guest that has no driver for it is found out: the error names the module, and the change is undone", async (t) => {
  const { host, vms, set, spec, vmm } = await setUp(t);
  await vms.start("web", vms.background());
  host.driver.faults.balloonStuck = true;
  const change = { memoryBytes: 256 * MIB, diskLimit: null };
  await assert.rejects(set(change), { code: "feature.missing", hint: /virtio_balloon/ });
  assert.deepEqual(vmm()?.limits.disks["own"], LIMIT, "what was changed with it is as it was");
  host.driver.calls.pop(); // The limits come last.
  assert.equal(host.driver.calls.at(-1), `set memory ${512 * MIB}`);
  assert.equal(spec().memoryBytes, 512 * MIB);
});

test("where memory cannot change, or its size is unknown, the VM has to be stopped first", async (t) => {
  const { host, vms, set } = await setUp(t);
  await vms.start("web", vms.background());
  await assert.rejects(set({ cpus: 4 }), { code: "vm.wrong_phase", hint: /hearth stop web/ });
  await assert.rejects(set({ memoryBytes: 256 * MIB, cpus: 4 }), { code: "vm.wrong_phase" });
  host.driver.description = { ...host.driver.description, balloon: false };
  await assert.rejects(set({ memoryBytes: 256 * MIB }), { code: "feature.missing", hint: /hearth stop web/ });
});

test("labels are set and removed in every state, are published, and are no change of the spec", async (t) => {
  const { host, vms, set } = await setUp(t);
  const events: unknown[] = [];
  host.bus.subscribe((event) => event.type === "vm.labels" && events.push(event.labels));
  await set({ labels: { team: "web", old: "1" } });
  await vms.start("web", vms.background());
  await vms.pause("web", vms.background());
  await set({ labels: { old: null, ci: "" } });
  const { labels, generation } = host.store.getVm("web");
  assert.deepEqual([labels, generation], [{ team: "web", ci: "" }, 1]);
  assert.deepEqual(events, [
    { team: "web", old: "1" },
    { team: "web", ci: "" },
  ]);
});

test("labels change while a start is under way, and while limits are being changed", async (t) => {
  const { host, vms, set } = await setUp(t);
  const gate = new Gate();
  host.driver.faults.bootGate = gate;
  const start = vms.start("web", vms.background());
  await gate.reached;
  await set({ labels: { team: "web" } });
  await assert.rejects(set({ restart: "always" }), { code: "vm.wrong_phase" }, "all else does not");
  gate.open();
  assert.equal((await start).state.phase, "running");
  assert.deepEqual(host.store.getVm("web").labels, { team: "web" });
  const both = set({ cpus: undefined, restart: "always", labels: { one: "1" } });
  await Promise.all([both, set({ labels: { other: "2" } })]);
  assert.deepEqual(host.store.getVm("web").labels, { team: "web", one: "1", other: "2" });
});

test("a change of labels and of the spec is made as a whole, or not at all", async (t) => {
  const { host, set } = await setUp(t);
  await set({ cpus: 4, labels: { team: "web" } });
  const before = host.store.getVm("web");
  assert.deepEqual([before.spec.cpus, before.labels, before.generation], [4, { team: "web" }, 2]);
  await assert.rejects(set({ diskBytes: 64 * MIB, labels: { team: "db" } }), { code: "input.invalid" });
  const many = Object.fromEntries(Array.from({ length: 64 }, (_, index) => [`k${index}`, ""]));
  await assert.rejects(set({ cpus: 2, labels: many }), {
    code: "input.invalid",
    message: /there would be 65/,
  });
  const { spec, labels, generation } = host.store.getVm("web");
  assert.deepEqual([spec, labels, generation], [before.spec, before.labels, 2]);
});

test("the network policy changes while the VM runs, and stays in force when the change fails", async (t) => {
  const { machine, host, vms } = await setUp(t);
  const set = (change: Parameters<Vms["set"]>[1]) => vms.set("nat", change, vms.background());
  const { id } = await vms.create({ name: "nat", image: "debian", network: "nat" }, false, vms.background());
  const inForce = () => machine.isolation.networks.get(id);
  const policy = { default: "deny", rules: [{ action: "allow", to: "192.0.2.0/24" }] } as const;
  await set({ policy });
  assert.equal(inForce(), undefined, "a VM that does not run has no network");
  await vms.start("nat", vms.background());
  assert.deepEqual(inForce(), policy);
  await set({ policy: null });
  assert.deepEqual(inForce(), INTERNET);
  assert.equal(host.store.getVm("nat").spec.policy, undefined);

  // The memory cannot be changed, after the policy was.
  await assert.rejects(set({ policy, memoryBytes: 1024 ** 4 }), { code: "input.invalid" });
  assert.deepEqual(inForce(), INTERNET);
  assert.equal(host.store.getVm("nat").spec.policy, undefined);
});

test("the limit of network nat needs no driver, changes while the VM runs, and is removed by null", async (t) => {
  const { machine, host, vms } = await setUp(t);
  host.driver.description = { ...host.driver.description, limits: { disk: false, net: false } };
  const limit = { bandwidthBytesPerS: MIB };
  const request = { name: "nat", image: "debian", network: "nat", netLimit: limit } as const;
  const { id } = await vms.create(request, false, vms.background());
  await vms.start("nat", vms.background());
  const inForce = () => machine.isolation.networkLimits.get(id);
  assert.deepEqual(inForce(), limit);
  host.helper.setNetworkPolicy = () => Promise.reject(new Error("The policy is not loaded again."));
  await vms.set("nat", { netLimit: { opsPerS: 50 } }, vms.background());
  assert.deepEqual(inForce(), { opsPerS: 50 });
  await vms.set("nat", { netLimit: null }, vms.background());
  assert.deepEqual(inForce(), {});
  assert.equal(host.store.getVm("nat").spec.netLimit, undefined);
});

test("a policy for a VM without a network that has one is refused", async (t) => {
  const { set, spec } = await setUp(t);
  const policy = { default: "deny", rules: [] } as const;
  await assert.rejects(set({ policy }), {
    code: "input.invalid",
    message: /^policy: the network none has none/,
  });
  assert.equal(spec().policy, undefined);
});
