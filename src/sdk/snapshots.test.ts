import assert from "node:assert/strict";
import { test } from "node:test";
import { Hearth } from "#sdk/hearth.ts";
import { FakeApi } from "#testing/fake-api.ts";

const connect = (api: FakeApi) => Hearth.connect({ socketPath: api.socketPath });

test("a program saves a VM, goes back to it, makes another one of it, and removes the snapshot", async () => {
  await using api = await FakeApi.start();
  api.addVm("web", "running");
  const hearth = await connect(api);
  const made = await hearth.snapshots.create({ vm: "web", name: "before" });
  assert.equal(made.hasMemory, true);
  assert.equal((await hearth.snapshots.show(made.id)).name, "before");
  await hearth.vm("web").kill();
  const back = await hearth.snapshots.restore("before");
  assert.equal((await back.show()).phase, "running");
  const other = await hearth.vms.create({ snapshot: "before", name: "web-2", cold: true });
  assert.equal((await other.show()).image, made.image);
  await hearth.snapshots.remove("before");
  assert.deepEqual(await hearth.snapshots.list(), []);
  const gone = { code: "snapshot.not_found", hint: /hearth snapshot ls/ };
  await assert.rejects(hearth.snapshots.restore("before"), gone);
});

test("forks come back as VMs, all with their own names", async () => {
  await using api = await FakeApi.start();
  api.addVm("web", "running");
  const vm = (await connect(api)).vm("web");
  assert.deepEqual(
    (await vm.fork()).map(({ name }) => name),
    ["web-1"],
  );
  const workers = await vm.fork({ count: 2, name: "worker", autoRemove: true });
  assert.deepEqual(
    workers.map(({ name }) => name),
    ["worker-1", "worker-2"],
  );
  assert.equal((await workers[0]?.show())?.autoRemove, true);
});

test("a VM is suspended, wakes, and starts as if it had never run", async () => {
  await using api = await FakeApi.start();
  api.addVm("web", "running");
  const vm = (await connect(api)).vm("web");
  assert.equal((await vm.suspend()).phase, "suspended");
  assert.equal((await vm.resume()).phase, "running");
  await vm.stop();
  assert.equal((await vm.start({ fresh: true })).phase, "running");
  assert.equal(api.requests.at(-1)?.path, "/v1/vms/web/start?fresh=true");
});

test("warm templates are made, listed, removed and pruned, and those in use stay", async () => {
  await using api = await FakeApi.start();
  const { warm } = await connect(api);
  const one = await warm.build({ image: "debian", cpus: 1 });
  const other = await warm.build({ image: "debian" });
  assert.equal(one.cpus, 1);
  assert.deepEqual(
    (await warm.list()).map(({ id }) => id),
    [other.id, one.id],
  );
  api.snapshots.use(one.id, "web");
  assert.deepEqual(await warm.prune(), { removed: 1 });
  await assert.rejects(warm.remove(one.id), { code: "snapshot.in_use" });
  await assert.rejects(warm.remove(other.id), { code: "snapshot.not_found" });
});
