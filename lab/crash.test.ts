/**
 * L1 on Firecracker, with cgroups: hearthd is killed where a VM has got something that a crash could leave on the
 * host. All steps of all flows are killed at on every host, in e2e/crash.test.ts.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Bed } from "../e2e/bed.ts";
import { crashAndRecover } from "../e2e/crash-flow.ts";
import type { CrashPoint } from "../e2e/crash-flow.ts";

const bed = new Bed({ config: '[defaults]\ndriver = "firecracker"\n' });

const POINTS: readonly CrashPoint[] = [
  { kind: "start", step: "make the cgroup", event: "done" },
  { kind: "start", step: "boot", event: "done" },
  { kind: "stop", step: "lift the walls", event: "started" },
  // Firecracker is halted while it writes its memory, and has to go on.
  { kind: "snapshot", step: "save", event: "started" },
  { kind: "snapshot", step: "save", event: "done" },
  { kind: "settle", step: "load", event: "done" },
];

for (const point of POINTS) {
  const { kind, step, event } = point;
  test(`after kill -9 of hearthd in ${kind}, "${step}" ${event}, no process, uid, cgroup, jail or mount is left`, async () => {
    await crashAndRecover(bed, point);
    assert.deepEqual(bed.cgroups(), []);
  });
}
