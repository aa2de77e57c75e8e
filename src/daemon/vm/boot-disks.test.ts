import assert from "node:assert/strict";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { MIB } from "#base/sizes.ts";
import { deviceLimits, vmDisks } from "#daemon/vm/boot-disks.ts";
import { Vms } from "#daemon/vm/vms.ts";
import { parseVolumeName } from "#model/ids.ts";
import { FakeHost, FakeMachine } from "#testing/fake-host.ts";

const BOOT = { base: "/base.ext4", modules: "/modules.ext4" };
const LONG = `data-${"x".repeat(58)}`;

async function setUp(t: TestContext) {
  const machine = new FakeMachine();
  const host = new FakeHost(machine);
  const vms = new Vms(host);
  t.after(() => {
    vms.detachAll();
    host.store.close();
    machine[Symbol.dispose]();
  });
  const volumes = [
    { name: LONG, path: "/data" },
    { name: "logs", path: "/data/logs", readOnly: true },
  ];
  for (const { name } of volumes)
    await host.volumes.create({ name: parseVolumeName(name), sizeBytes: 64 * MIB }, t.signal);
  await vms.create(
    { name: "web", image: "debian", volumes, diskLimit: { opsPerS: 10 } },
    false,
    vms.background(),
  );
  return { host, vm: host.store.getVm("web") };
}

test("every disk has a different id that fits into a serial, and the limits of a VM name those ids", async (t) => {
  const { host, vm } = await setUp(t);
  const { disks } = vmDisks(host, vm, BOOT, { diskSerials: true });
  const ids = disks.map(({ id }) => id);
  assert.equal(new Set(ids).size, 5);
  for (const id of ids) assert.match(id, /^[a-z0-9-]{1,20}$/);
  const limited = disks.filter(({ limit }) => limit !== undefined).map(({ id }) => id);
  assert.equal(limited.length, 3);
  assert.deepEqual(Object.keys(deviceLimits(vm.spec, vm.id).disks), limited);
});

test("a guest that knows serials gets serials, and any other the places of the same disks", async (t) => {
  const { host, vm } = await setUp(t);
  const bySerial = vmDisks(host, vm, BOOT, { diskSerials: true });
  const byPlace = vmDisks(host, vm, BOOT, {});
  assert.deepEqual(byPlace.kernelArgs, [
    "hearth.base=/dev/vda",
    "hearth.disk=/dev/vdb",
    "hearth.modules=/dev/vdc",
  ]);
  assert.deepEqual(bySerial.kernelArgs, [
    "hearth.base=serial:base",
    "hearth.disk=serial:own",
    "hearth.modules=serial:modules",
  ]);
  const places = bySerial.mounts.map(({ device, path, readOnly }) => {
    const index = bySerial.disks.findIndex(({ id }) => `serial:${id}` === device);
    return { device: `/dev/vd${"abcde"[index]}`, path, readOnly };
  });
  assert.deepEqual(byPlace.mounts, places);
  assert.deepEqual(
    places.map(({ device, path }) => [device, path]),
    [
      ["/dev/vdd", "/data"],
      ["/dev/vde", "/data/logs"],
    ],
  );
});
