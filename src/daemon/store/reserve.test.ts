import assert from "node:assert/strict";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Reserve } from "#daemon/store/reserve.ts";

test("the reserve takes its space, frees it once, and takes it again", (t) => {
  const dir = mkdtempSync(join(tmpdir(), "hearth-reserve-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const path = join(dir, "reserve");
  const reserve = new Reserve(path);
  assert.equal(reserve.release(), false, "there was none yet");
  reserve.fill();
  assert.ok(statSync(path).blocks * 512 >= 1024 * 1024, "it takes blocks, and is no hole");
  assert.equal(reserve.release(), true);
  assert.equal(statSync(path).blocks, 0);
  assert.equal(reserve.release(), false);
  reserve.fill();
  assert.equal(new Reserve(path).release(), true, "also after a restart");
});
