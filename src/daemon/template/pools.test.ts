import assert from "node:assert/strict";
import { test } from "node:test";
import type { TestContext } from "node:test";
import type { ApiEvent } from "#api/events.ts";
import type { CreateVm } from "#api/wire.ts";
import { INTERNET } from "#model/network-policy.ts";
import { handleOf } from "#model/vm-state.ts";
import { assertRuns, crashTest } from "#testing/crash-story.ts";
import { useFakeDaemon } from "#testing/fake-daemon.ts";
import type { FakeDaemon } from "#testing/fake-daemon.ts";

const config = `
[warm]
enabled = true
[pool.web]
image = "debian"
count = 2
`;

async function fill({ pools }: FakeDaemon): Promise<void> {
  pools.fill();
  await pools.idle();
}

/** Makes a pool with two VMs that wait. */
async function setUp(t: TestContext) {
  const daemon = await useFakeDaemon(t, { config });
  const { host, vms, pools } = daemon;
  await fill(daemon);
  assert.equal(pools.ready("web"), 2);
  const take = (request: CreateVm) => pools.take(request, false, vms.background());
  return { daemon, pools, host, vms, take };
}

test("VMs of a pool wait, paused and not listed; a caller gets one under the requested name, as if it had started", async (t) => {
  const { daemon, pools, host, take } = await setUp(t);
  const events: ApiEvent[] = [];
  host.bus.subscribe((event) => events.push(event));
  assert.deepEqual(
    host.machine.vmms.running().map(({ phase }) => phase),
    ["paused", "paused"],
  );
  const vm = await take({ name: "web", image: "debian", env: { A: "1" } });
  assert.deepEqual(
    [vm?.name, vm?.state.phase, vm?.spec.internal, vm?.spec.env],
    ["web", "running", undefined, { A: "1" }],
  );
  await assertRuns(daemon, "web");
  assert.equal(host.machine.vmm("web").guest.calls.at(-2), "configure restored");
  assert.deepEqual(
    events.map(({ type }) => type),
    ["vm.created", "vm.phase"],
  );
  await pools.idle();
  assert.equal(pools.ready("web"), 2, "another one waits in its place");
});

test("a request for other sizes, a snapshot, or a boot gets none of them", async (t) => {
  const { pools, take } = await setUp(t);
  for (const request of [
    { image: "debian", cpus: 4 },
    { image: "debian", cold: true },
    { image: "debian", isolation: { jail: false } },
  ])
    assert.equal(await take(request), undefined);
  assert.equal(pools.ready("web"), 2);
});

test("one with a network has the policy of its caller before its guest runs", async (t) => {
  const daemon = await useFakeDaemon(t, { config: `${config}network = "nat"\n` });
  const { host, vms, pools } = daemon;
  await fill(daemon);
  const { networks } = host.machine.isolation;
  assert.deepEqual([...networks.values()], [INTERNET, INTERNET], "what they wait with");
  const set: string[] = [];
  const { setNetworkPolicy } = host.helper;
  host.helper.setNetworkPolicy = (id, policy, signal) => {
    set.push(host.machine.vmms.running().find(({ plan }) => plan.id === id)?.phase ?? "");
    return setNetworkPolicy(id, policy, signal);
  };
  const policy = { default: "deny", rules: [] } as const;
  const request = { image: "debian", network: "nat", policy, netLimit: { opsPerS: 50 } } as const;
  const vm = await pools.take(request, false, vms.background());
  assert.ok(vm);
  assert.deepEqual(networks.get(vm.id), policy);
  assert.deepEqual(host.machine.isolation.networkLimits.get(vm.id), { opsPerS: 50 });
  assert.deepEqual(set, ["paused"]);

  const publish = [{ address: "127.0.0.1", hostPort: 28_083, guestPort: 80, protocol: "tcp" } as const];
  assert.equal(await pools.take({ ...request, publish }, false, vms.background()), undefined, "with ports");
  host.helper.setNetworkPolicy = () => Promise.reject(new Error("nft fails"));
  assert.equal(
    await pools.take(request, false, vms.background()),
    undefined,
    "without it, none is given away",
  );
});

test("three requests at once get two VMs, and never the same", async (t) => {
  const { take } = await setUp(t);
  const taken = await Promise.all([1, 2, 3].map(() => take({ image: "debian" })));
  const ids = taken.flatMap((vm) => (vm === undefined ? [] : [vm.id]));
  assert.deepEqual([ids.length, new Set(ids).size], [2, 2]);
});

test("one that died while it waited is given to no one, and another one waits", async (t) => {
  const { pools, host, vms, take } = await setUp(t);
  const [first] = host.machine.vmms.running();
  const handle = handleOf(host.store.getVm(first?.plan.id ?? "").state);
  assert.ok(handle);
  host.driver.crash(handle);
  const names = ["one", "two"];
  const taken = await Promise.all(names.map((name) => take({ name, image: "debian" })));
  assert.deepEqual(taken.map((vm) => vm?.state.phase).toSorted(), ["running", undefined]);
  await pools.idle();
  assert.equal(pools.ready("web"), 2);
  for (const name of names) if (host.store.findVm(name)) await vms.remove(name, true, vms.background());
});

test("pooled VMs that died are no longer counted, and others are made at the next request", async (t) => {
  const { pools, host, take } = await setUp(t);
  const ids = host.machine.vmms.running().map(({ plan }) => plan.id);
  assert.equal(pools.ready("web"), 2);
  for (const id of ids) {
    const handle = handleOf(host.store.getVm(id).state);
    assert.ok(handle);
    host.driver.crash(handle);
    while (host.store.getVm(id).state.phase !== "failed")
      await new Promise((resolve) => setImmediate(resolve));
  }
  assert.equal(pools.ready("web"), 0);
  assert.equal(await take({ name: "web", image: "debian" }), undefined, "there is none to be taken");
  await pools.idle();
  assert.equal(pools.ready("web"), 2);
  for (const id of ids) assert.equal(host.store.findVm(id), undefined, "it was removed");
});

test("a taken name is the caller's error, and a hearthd that ends removes all VMs that wait", async (t) => {
  const { daemon, pools, host, vms, take } = await setUp(t);
  await vms.create({ name: "web", image: "debian", cold: true }, false, vms.background());
  await assert.rejects(take({ name: "web", image: "debian" }), { code: "name.taken" });
  await pools.idle();
  await pools.end();
  assert.deepEqual(
    host.store.listVms().map(({ name }) => name),
    ["web"],
  );
  await vms.remove("web", true, vms.background());
  await daemon.templates.prune();
  assert.deepEqual(host.machine.leftovers(), []);
});

test("a VM that cannot be removed at the end of hearthd keeps none of the others", async (t) => {
  const { daemon, pools, host, vms } = await setUp(t);
  t.mock.method(vms, "discard", () => Promise.reject(new Error("it does not end")), { times: 1 });
  await pools.end();
  const [left, ...others] = host.store.listVms().filter(({ spec }) => spec.internal === "foreground");
  assert.deepEqual(others, []);
  const told = host.machine.events.find(({ name }) => name === "pool.failed");
  assert.match(String((told?.fields as { error?: unknown } | undefined)?.error), /it does not end/);
  await vms.discard(left?.id ?? assert.fail("one is left"));
  await daemon.templates.prune();
  assert.deepEqual(host.machine.leftovers(), []);
});

crashTest("killing hearthd while a pooled VM is taken: the caller has it completely, or it is removed", {
  options: { config },
  before: fill,
  act: async ({ pools, vms }) => {
    await pools.take({ name: "web", image: "debian" }, false, vms.background());
    await pools.end();
  },
  includes: ["driver.resume", "guest.configure", "store.claimVm", "store.transaction"],
  after: ({ host }) => {
    for (const { name, state } of host.store.listVms())
      assert.deepEqual([name, state.phase], ["web", "running"]);
  },
});
