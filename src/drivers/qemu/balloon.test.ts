import assert from "node:assert/strict";
import { test } from "node:test";
import { MIB } from "#base/sizes.ts";
import { assertFrees } from "#drivers/qemu/balloon.ts";
import { parseSnapshotId } from "#model/ids.ts";

const snapshot = parseSnapshotId("sn-aaaaaaaaaaaa");
const now = { bytes: 256 * MIB, maxBytes: 512 * MIB };

test("a balloon inflates only in a VM whose memory QEMU can free", () => {
  for (const handle of [{ sharesMemory: true }, { sharesMemory: true, snapshot }]) {
    assert.throws(() => assertFrees(handle, now, 255 * MIB), { code: "feature.missing", hint: /--cold/ });
    for (const more of [256 * MIB, 512 * MIB]) assertFrees(handle, now, more);
  }
  for (const handle of [{ sharesMemory: false }, { sharesMemory: false, snapshot }, {}])
    assertFrees(handle, now, MIB);
});

test("a restored VM of an older hearthd counts as one that shares its memory", () => {
  assert.throws(() => assertFrees({ snapshot }, now, MIB), { code: "feature.missing" });
});
