import assert from "node:assert/strict";
import { test } from "node:test";
import { firecrackerFeatures } from "#drivers/firecracker/features.ts";
import type { FoundFirecracker } from "#drivers/firecracker/install/find-firecracker.ts";

function found(version: string): FoundFirecracker {
  return { ok: true, version, program: "/usr/bin/firecracker" } as FoundFirecracker;
}

test("what is saved fits the same Firecracker on the same CPU, and nothing else", () => {
  const fits = (version: string, cpu: string): string | undefined =>
    firecrackerFeatures(found(version), "works", cpu).snapshots?.fits;
  assert.equal(fits("1.12.1", "a CPU"), fits("1.12.1", "a CPU"));
  assert.notEqual(fits("1.12.1", "a CPU"), fits("1.13.0", "a CPU"));
  assert.notEqual(fits("1.12.1", "a CPU"), fits("1.12.1", "another CPU"));
});

test("a Firecracker that loses the vsock after a restore saves nothing, and says which one does", () => {
  const broken = firecrackerFeatures(found("1.16.0"), "works");
  assert.equal(broken.snapshots, undefined);
  assert.match(broken.snapshotsRefused ?? "", /1\.16\.0 loses the vsock.*Use Firecracker 1\.16\.1 or newer/);
  const mended = firecrackerFeatures(found("1.16.1"), "works");
  assert.deepEqual([mended.snapshots?.diskFormat, mended.snapshotsRefused], ["raw", undefined]);
});

test("nothing is said of snapshots where there is no Firecracker", () => {
  const none = firecrackerFeatures(
    { ok: false, reason: "None.", hint: "Install it.", refused: undefined },
    "works",
  );
  assert.deepEqual([none.snapshots, none.snapshotsRefused], [undefined, undefined]);
});
