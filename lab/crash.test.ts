/**
 * hearthd is killed where a VM on Firecracker, with a cgroup, has something that a crash could leave on the host. Every
 * step of every flow is killed at on every host, in e2e/crash.test.ts.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Bed } from "../e2e/bed.ts";
import { crashAndRecover } from "../e2e/crash-flow.ts";
import type { CrashPoint } from "../e2e/crash-flow.ts";

const config = '[defaults]\ndriver = "firecracker"\n';

const POINTS: readonly CrashPoint[] = [
  "start/boot/done",
  // Firecracker is paused while it writes its memory, and has to be resumed.
  "snapshot/save/started",
];

for (const point of POINTS) {
  test(`after kill -9 of hearthd at ${point}, no process, uid, cgroup, jail or mount is left`, async () => {
    const bed = new Bed({ config });
    await crashAndRecover(bed, point);
    assert.deepEqual(bed.cgroups(), []);
  });
}
