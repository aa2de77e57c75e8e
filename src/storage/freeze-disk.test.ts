import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { MIB } from "#base/sizes.ts";
import { freezeDisk } from "#storage/disk-layers.ts";

const { signal } = new AbortController();

/** A VM's disk of this size, and a snapshot's directory to freeze it into. */
function setUp(t: TestContext, name: string, sizeBytes: number) {
  const dir = mkdtempSync(join(tmpdir(), "hearth-freeze-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const [vm, snapshot] = [join(dir, "vm"), join(dir, "snapshot")];
  for (const each of [vm, snapshot]) mkdirSync(each);
  writeFileSync(join(vm, name), "written");
  truncateSync(join(vm, name), sizeBytes);
  return { vm, snapshot };
}

for (const [name, layer] of [
  ["disk.raw", "layer-0.raw"],
  ["disk.qcow2", "layer-0.qcow2"],
] as const) {
  test(`a large ${name} is copied completely, and a cancelled copy ends`, async (t) => {
    const { vm, snapshot } = setUp(t, name, 64 * MIB);
    const path = join(snapshot, layer);
    await assert.rejects(freezeDisk(vm, snapshot, AbortSignal.abort(new Error("The VM was killed."))));
    rmSync(path, { force: true });
    await freezeDisk(vm, snapshot, signal);
    assert.ok(existsSync(path));
    assert.equal(readFileSync(path).subarray(0, 7).toString(), "written");
  });
}
