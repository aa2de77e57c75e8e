import assert from "node:assert/strict";
import { test } from "node:test";
import { acquireHostResources, acquireWithDisk } from "#daemon/vm/host-resources.ts";
import { HOST_RESOURCES, listOwners, releaseHostResources } from "#daemon/vm/host-resources.ts";
import { FakeDaemon } from "#testing/fake-daemon.ts";
import { FakeMachine } from "#testing/fake-host.ts";

/** Makes a VM that was not started, on a new host. */
async function setUp() {
  const machine = new FakeMachine();
  let daemon = await new FakeDaemon(machine).begin();
  const vm = await daemon.vms.create(
    { image: "debian", name: "web", network: "nat" },
    false,
    daemon.vms.background(),
  );
  const { host } = daemon;
  const acquiring = { vm, driver: host.driver, signal: new AbortController().signal };
  return {
    machine,
    host,
    vm,
    acquiring,
    restart: async () => {
      daemon.drop();
      daemon = await new FakeDaemon(machine).begin();
      return daemon;
    },
    [Symbol.dispose]: () => {
      daemon.drop();
      machine[Symbol.dispose]();
    },
  };
}

for (const resource of HOST_RESOURCES) {
  test(`${resource.name}: acquired and released twice is as once, and a VM without it has nothing to release`, async () => {
    using place = await setUp();
    const { host, vm, acquiring } = place;
    await resource.release(host, vm.id);
    const before = place.machine.leftovers();
    for (let times = 0; times < 2; times++) await acquireHostResources(host, acquiring);
    for (let times = 0; times < 2; times++) await resource.acquire(host, acquiring);
    for (let times = 0; times < 2; times++) await releaseHostResources(host, vm.id);
    assert.deepEqual(await resource.listOwned(host), []);
    assert.deepEqual(place.machine.leftovers(), before);
  });
}

test("a VM with any resource is among the owners, until all of them are released", async () => {
  using place = await setUp();
  const { host, vm, acquiring } = place;
  assert.deepEqual([...(await listOwners(host))], []);
  await acquireHostResources(host, acquiring);
  await acquireWithDisk(host, acquiring);
  assert.deepEqual([...(await listOwners(host))], [vm.id]);
  await releaseHostResources(host, vm.id);
  assert.deepEqual([...(await listOwners(host))], []);
});

test("a resource that cannot be released keeps those before it, and the next release continues", async () => {
  using place = await setUp();
  const { host, vm, acquiring } = place;
  await acquireHostResources(host, acquiring);
  const { removeCgroup } = host.helper;
  host.helper.removeCgroup = () => Promise.reject(new Error("EBUSY"));
  await assert.rejects(releaseHostResources(host, vm.id), /EBUSY/);
  assert.ok((await host.helper.uidOf(vm.id)) !== undefined, "a process in the cgroup may still have it");
  host.helper.removeCgroup = removeCgroup;
  await releaseHostResources(host, vm.id);
  assert.deepEqual([...(await listOwners(host))], []);
});

test("what is owned by no VM of the store is released when hearthd starts", async () => {
  using place = await setUp();
  const { host, vm, acquiring } = place;
  await acquireHostResources(host, acquiring);
  await acquireWithDisk(host, acquiring);
  host.store.deleteVm(vm.id);
  const next = await place.restart();
  assert.deepEqual([...(await listOwners(next.host))], []);
});
