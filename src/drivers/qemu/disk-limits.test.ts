import assert from "node:assert/strict";
import { test } from "node:test";
import { limitDisks } from "#drivers/qemu/disk-limits.ts";
import type { QmpMonitor } from "#drivers/qemu/qmp.ts";
import type { DeviceLimits } from "#drivers/vm-driver.ts";

const LIMIT = { opsPerS: 100 };

/** Which devices of a QEMU with these get how many requests per second; 0 is without a limit. */
async function limited(qdevs: readonly string[], limits: DeviceLimits): Promise<unknown> {
  const got: Record<string, number> = {};
  const send = async (command: string, take: { id: string; iops: number }): Promise<unknown> => {
    if (command === "query-block") return qdevs.map((qdev) => ({ qdev }));
    got[take.id] = take.iops;
    return {};
  };
  await limitDisks({ send } as unknown as QmpMonitor, limits, 1_000);
  return got;
}

test("a disk gets the limit of its id, one that is named without a limit loses it, and others keep theirs", async () => {
  const own = "/machine/peripheral/disk-own/virtio-backend";
  const disks = { own: LIMIT, "vol-a": undefined, "vol-c": LIMIT };
  assert.deepEqual(await limited(["disk-base", own, "disk-vol-a", "disk-vol-b", ""], { disks }), {
    [own]: 100,
    "disk-vol-a": 0,
  });
  assert.deepEqual(await limited([own], {}), {});
});

test("a QEMU of an older hearthd, whose disks have no ids, limits all of the VM's own", async () => {
  const disks = { own: LIMIT, "vol-a": LIMIT };
  assert.deepEqual(await limited(["shared0", "own1", "/machine/peripheral/own3/virtio-backend"], { disks }), {
    own1: 100,
    "/machine/peripheral/own3/virtio-backend": 100,
  });
});
