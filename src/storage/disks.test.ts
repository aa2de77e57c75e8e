import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { GIB, MIB } from "#base/sizes.ts";
import { runOrThrow } from "#host/run.ts";
import { LIMITS } from "#model/limits.ts";
import { createDisk, diskUsage, growDisk } from "#storage/disks.ts";

function scratch(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), "hearth-disks-"));
  t.after(() => rmSync(dir, { recursive: true }));
  return dir;
}

test("a new disk is a sound ext4 of its full size that takes at most 2 MiB of the host's", async (t) => {
  const path = join(scratch(t), "disk.raw");
  for (const sizeBytes of [LIMITS.diskMinBytes, 8 * GIB, LIMITS.diskMaxBytes]) {
    await createDisk(path, sizeBytes, t.signal);
    const usage = await diskUsage(path);
    assert.equal(usage.sizeBytes, sizeBytes);
    assert.ok(usage.allocatedBytes <= 2 * MIB, `${sizeBytes}: ${usage.allocatedBytes}`);
    await runOrThrow("e2fsck", ["-f", "-n", path], { timeoutMs: 60_000, signal: t.signal });
  }
});

test("a disk that could not be made leaves no file", async (t) => {
  const dir = scratch(t);
  const aborted = AbortSignal.abort(new Error("the user left"));
  await assert.rejects(createDisk(join(dir, "disk.raw"), GIB, aborted));
  assert.deepEqual(readdirSync(dir), []);
  await assert.rejects(createDisk(join(dir, "none", "disk.raw"), GIB, t.signal), /ENOENT/);
  assert.equal(existsSync(join(dir, "none")), false);
});

test("a disk grows and never shrinks", async (t) => {
  const path = join(scratch(t), "disk.raw");
  await createDisk(path, 64 * MIB, t.signal);
  await growDisk(path, 128 * MIB);
  assert.equal((await diskUsage(path)).sizeBytes, 128 * MIB);
  await growDisk(path, 128 * MIB);
  await assert.rejects(growDisk(path, 64 * MIB), { code: "input.invalid" });
  assert.equal((await diskUsage(path)).sizeBytes, 128 * MIB);
});
