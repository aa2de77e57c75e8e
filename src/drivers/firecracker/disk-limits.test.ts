import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { MIB } from "#base/sizes.ts";
import { UNCONFINED } from "#drivers/boot-isolation.ts";
import { FirecrackerClient } from "#drivers/firecracker/api/firecracker-client.ts";
import { parseFirecrackerVersion } from "#drivers/firecracker/api/firecracker-version.ts";
import { firecrackerConfig } from "#drivers/firecracker/boot-config.ts";
import { bucketsOf, limitDrives } from "#drivers/firecracker/disk-limits.ts";
import { isLimitedDrive } from "#drivers/firecracker/drive-id.ts";
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
    { path: "/base.ext4", format: "raw", readOnly: true },
    { path: "/disk.raw", format: "raw", readOnly: false, limited: true },
    { path: "/volume.raw", format: "raw", readOnly: true, limited: true },
  ],
  cpus: 1,
  memoryBytes: 256 * MIB,
  network: "none",
  init: "agent",
  nested: false,
  isolation: UNCONFINED,
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

  test("says nothing of what is not limited", () => {
    assert.equal(bucketsOf(undefined), undefined);
    assert.equal(bucketsOf({ opsPerS: 10 })?.bandwidth, undefined);
  });
});

describe("limits at the start", () => {
  test("hold for the VM's own disks, also one that is only read, and not for its image", () => {
    const disk = { bandwidthBytesPerS: 10 * MIB };
    const { drives = [] } = firecrackerConfig({ ...PLAN, limits: { disk } });
    const limiter = { bandwidth: { size: 10 * MIB, refillTime: 1_000 }, ops: undefined };
    assert.deepEqual(
      drives.map(({ driveId, rateLimiter }) => [driveId, isLimitedDrive(driveId), rateLimiter]),
      [
        ["shared0", false, undefined],
        ["own1", true, limiter],
        ["own2", true, limiter],
      ],
    );
  });

  test("are not said where there are none, and the names of the disks tell for later", () => {
    const { drives = [] } = firecrackerConfig(PLAN);
    assert.deepEqual(
      drives.map(({ driveId, rateLimiter }) => [driveId, rateLimiter]),
      [
        ["shared0", undefined],
        ["own1", undefined],
        ["own2", undefined],
      ],
    );
  });
});

describe("limits of a VM that runs", () => {
  test("are set on each of its own disks, as Firecracker itself names them", async () => {
    await using vm = await FakeFirecrackerVm.start();
    const limits = { disk: { bandwidthBytesPerS: MIB, bandwidthBurstBytes: 2 * MIB, opsPerS: 100 } };
    await limitDrives(clientOf(vm), limits, signal);
    const rate_limiter = {
      bandwidth: { size: 2 * MIB, refill_time: 2_000 },
      ops: { size: 100, refill_time: 1_000 },
    };
    assert.deepEqual(vm.changes, [
      { request: "PATCH /drives/own1", body: { drive_id: "own1", rate_limiter } },
      { request: "PATCH /drives/own2", body: { drive_id: "own2", rate_limiter } },
    ]);
    assert.equal(vm.api.asked[0]?.path, "/vm/config");
  });

  test("go when they are not named any more, one of them or both", async () => {
    await using vm = await FakeFirecrackerVm.start();
    vm.driveIds = ["shared0", "own1"];
    const none = { size: 0, refill_time: 0 };
    await limitDrives(clientOf(vm), { disk: { opsPerS: 100 } }, signal);
    await limitDrives(clientOf(vm), {}, signal);
    assert.deepEqual(
      vm.changes.map(({ body }) => body),
      [
        { drive_id: "own1", rate_limiter: { bandwidth: none, ops: { size: 100, refill_time: 1_000 } } },
        { drive_id: "own1", rate_limiter: { bandwidth: none, ops: none } },
      ],
    );
  });

  test("of a VM without disks are nothing to do", async () => {
    await using vm = await FakeFirecrackerVm.start();
    vm.driveIds = [];
    await limitDrives(clientOf(vm), { disk: { opsPerS: 100 } }, signal);
    assert.deepEqual(vm.changes, []);
  });
});
