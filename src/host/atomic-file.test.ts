import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { writeFileAtomic } from "#host/atomic-file.ts";
import { crashAtEachEffect } from "#testing/crash-points.ts";

test("a kill at any moment leaves the old file or the whole new one", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "hearth-atomic-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const path = join(dir, "file");
  const places = await crashAtEachEffect({
    prepare: async () => writeFileSync(path, "old"),
    operation: () => writeFileAtomic(path, "new"),
    check: async (_, killedAfter) =>
      assert.equal(readFileSync(path, "utf8"), killedAfter < 2 ? "old" : "new", `after ${killedAfter}`),
  });
  assert.equal(places, 2);
});
