import assert from "node:assert/strict";
import { test } from "node:test";
import { firecrackerFeatures } from "#drivers/firecracker/features.ts";
import type { FoundFirecracker } from "#drivers/firecracker/install/find-firecracker.ts";

function found(version: string): FoundFirecracker {
  return { ok: true, version, program: "/usr/bin/firecracker" } as FoundFirecracker;
}

test("a snapshot is compatible with the same Firecracker on the same CPU, and with nothing else", () => {
  const vmmFingerprint = (version: string, cpu: string): string | undefined =>
    firecrackerFeatures(found(version), "works", cpu).snapshots?.vmmFingerprint;
  assert.equal(vmmFingerprint("1.12.1", "a CPU"), vmmFingerprint("1.12.1", "a CPU"));
  assert.notEqual(vmmFingerprint("1.12.1", "a CPU"), vmmFingerprint("1.13.0", "a CPU"));
  assert.notEqual(vmmFingerprint("1.12.1", "a CPU"), vmmFingerprint("1.12.1", "another CPU"));
});

test("a development build is not compatible with its release", () => {
  const vmmFingerprint = (version: string) =>
    firecrackerFeatures(found(version), "works", "a CPU").snapshots?.vmmFingerprint;
  assert.notEqual(vmmFingerprint("1.17.0-dev"), vmmFingerprint("1.17.0"));
});

test("a caveat names the versions that do not move the clock of a restored guest", () => {
  const said = (version: string): string =>
    firecrackerFeatures(found(version), "works").snapshots?.caveats.join(" ") ?? "";
  assert.match(
    said("1.12.1"),
    /1\.12\.1 moves the monotonic clock .* Use Firecracker 1\.14\.4, 1\.15\.1, 1\.16\.2/,
  );
  for (const version of ["1.14.4", "1.15.1", "1.16.2", "1.17.0"])
    assert.doesNotMatch(said(version), /clock/, version);
});

test("there are no features of snapshots without a Firecracker", () => {
  const none = firecrackerFeatures(
    { ok: false, reason: "None.", hint: "Install it.", refused: undefined },
    "works",
  );
  assert.deepEqual([none.snapshots, none.snapshotsRefused], [undefined, undefined]);
});
