import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { MIB } from "#base/sizes.ts";
import { NO_ISOLATION } from "#drivers/boot-isolation.ts";
import { FirecrackerClient } from "#drivers/firecracker/api/firecracker-client.ts";
import { parseFirecrackerVersion } from "#drivers/firecracker/api/firecracker-version.ts";
import { firecrackerConfig } from "#drivers/firecracker/boot-config.ts";
import { bucketsOf, limitDrives } from "#drivers/firecracker/disk-limits.ts";
import type { BootPlan } from "#drivers/vm-driver.ts";
import { parseVmName, vmIdFrom } from "#model/ids.ts";
import { LIMITS } from "#model/limits.ts";
import { FakeFirecrackerVm } from "#testing/fake-firecracker-vm.ts";

const signal = AbortSignal.timeout(60_000);
const PLAN: BootPlan = {
  id: vmIdFrom(new Uint8Array(12)),
  name: parseVmName("web"),
  stateDir: "/state",
  runDir: "/run",
  kernel: "/vmlinux",
  initramfs: "/initrd",
  kernelArgs: [],
  disks: [
    { id: "base", path: "/base.ext4", format: "raw", readOnly: true },
    { id: "own", path: "/disk.raw", format: "raw", readOnly: false },
    { id: "vol-a", path: "/volume.raw", format: "raw", readOnly: true },
  ],
  cpus: 1,
  memoryBytes: 256 * MIB,
  nics: [],
  init: "agent",
  nested: false,
  isolation: NO_ISOLATION,
};

function clientOf({ files }: FakeFirecrackerVm): FirecrackerClient {
  return new FirecrackerClient({ socketPath: files.api, version: parseFirecrackerVersion("1.12.1") });
}

describe("a limit as token buckets", () => {
  test("holds a second's worth of its rate, and all of a burst", () => {
    assert.deepEqual(bucketsOf({ bandwidthBytesPerS: 10 * MIB, opsPerS: 500 }), {
      bandwidth: { size: 10 * MIB, refillTime: 1_000 },
      ops: { size: 500, refillTime: 1_000 },
    });
    const bursts = { bandwidthBytesPerS: MIB, bandwidthBurstBytes: 4 * MIB, opsPerS: 100, opsBurst: 250 };
    assert.deepEqual(bucketsOf(bursts), {
      bandwidth: { size: 4 * MIB, refillTime: 4_000 },
      ops: { size: 250, refillTime: 2_500 },
    });
  });

  test("is within half a percent of its rate, however small or odd that is, and never an empty bucket", () => {
    const rates = [LIMITS.opsMinPerS, 11, 17, 99, 101, 333, 4_999, LIMITS.opsMaxPerS];
    for (const opsPerS of rates) {
      const { size = 0, refillTime = 0 } = bucketsOf({ opsPerS })?.ops ?? {};
      assert.ok(Number.isInteger(size) && size > 0 && Number.isInteger(refillTime) && refillTime > 0);
      const error = Math.abs((size / refillTime) * 1_000 - opsPerS) / opsPerS;
      assert.ok(error <= 0.005, `${opsPerS}: ${error}`);
    }
  });

  test("has no bucket for what is not limited", () => {
    assert.equal(bucketsOf(undefined), undefined);
    assert.equal(bucketsOf({ opsPerS: 10 })?.bandwidth, undefined);
  });
});

test("the limits of a plan apply from the start to the disks that have them, and to no others", () => {
  const limit = { bandwidthBytesPerS: 10 * MIB };
  const disks = PLAN.disks.map((disk) => (disk.id === "vol-a" ? { ...disk, limit } : disk));
  const { drives = [] } = firecrackerConfig({ ...PLAN, disks });
  const limiter = { bandwidth: { size: 10 * MIB, refillTime: 1_000 }, ops: undefined };
  assert.deepEqual(
    drives.map(({ driveId, rateLimiter }) => [driveId, rateLimiter]),
    [
      ["disk0", undefined],
      ["disk1", undefined],
      ["disk2", limiter],
    ],
  );
});

describe("limits of a running VM", () => {
  const handle = { disks: ["base", "own", "vol-a"] };
  const none = { size: 0, refill_time: 0 };
  const ops = { size: 100, refill_time: 1_000 };

  test("are set on the disks that are named, and those of the others stay as they are", async () => {
    await using vm = await FakeFirecrackerVm.start();
    const limit = { bandwidthBytesPerS: MIB, bandwidthBurstBytes: 2 * MIB, opsPerS: 100 };
    await limitDrives(clientOf(vm), handle, { disks: { "vol-a": limit, "vol-b": limit } }, signal);
    const rate_limiter = { bandwidth: { size: 2 * MIB, refill_time: 2_000 }, ops };
    assert.deepEqual(vm.changes, [
      { request: "PATCH /drives/disk2", body: { drive_id: "disk2", rate_limiter } },
    ]);
    assert.equal(vm.api.asked[0]?.path, "/vm/config");
  });

  test("are removed when they are undefined, one or both", async () => {
    await using vm = await FakeFirecrackerVm.start();
    await limitDrives(clientOf(vm), handle, { disks: { own: { opsPerS: 100 } } }, signal);
    await limitDrives(clientOf(vm), handle, { disks: { own: undefined } }, signal);
    await limitDrives(clientOf(vm), handle, {}, signal);
    assert.deepEqual(
      vm.changes.map(({ body }) => body),
      [
        { drive_id: "disk1", rate_limiter: { bandwidth: none, ops } },
        { drive_id: "disk1", rate_limiter: { bandwidth: none, ops: none } },
      ],
    );
  });

  test("that an older hearthd has started, without disk ids, are set on each of the VM's disks", async () => {
    await using vm = await FakeFirecrackerVm.start();
    vm.driveIds = ["shared0", "own1", "shared2", "own3"];
    await limitDrives(clientOf(vm), {}, { disks: { own: { opsPerS: 100 } } }, signal);
    assert.deepEqual(
      vm.changes.map(({ request }) => request),
      ["PATCH /drives/own1", "PATCH /drives/own3"],
    );
  });
});
