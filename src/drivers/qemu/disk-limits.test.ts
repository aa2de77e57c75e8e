import assert from "node:assert/strict";
import { test } from "node:test";
import { limitDisks } from "#drivers/qemu/disk-limits.ts";
import type { QmpMonitor } from "#drivers/qemu/qmp.ts";
import type { DeviceLimits } from "#drivers/vm-driver.ts";

const LIMIT = { opsPerS: 100 };

/** Returns which of these devices get how many requests per second; 0 is no limit. */
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

test("a named disk gets its new limit or loses its limit, and other disks keep theirs", async () => {
  const own = "/machine/peripheral/disk-own/virtio-backend";
  const disks = { own: LIMIT, "vol-a": undefined, "vol-c": LIMIT };
  assert.deepEqual(await limited(["disk-base", own, "disk-vol-a", "disk-vol-b", ""], { disks }), {
    [own]: 100,
    "disk-vol-a": 0,
  });
  assert.deepEqual(await limited([own], {}), {});
});

test("in a QEMU of an older hearthd, without disk ids, the limit applies to all of the VM's disks", async () => {
  const disks = { own: LIMIT, "vol-a": LIMIT };
  assert.deepEqual(await limited(["shared0", "own1", "/machine/peripheral/own3/virtio-backend"], { disks }), {
    own1: 100,
    "/machine/peripheral/own3/virtio-backend": 100,
  });
});
