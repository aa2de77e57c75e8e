import assert from "node:assert/strict";
import { linkSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ownBytesIn, parsePss } from "./vm-cost.ts";

test("the share of memory is the sum that stands first, and none of its parts", () => {
  const rollup = [
    "55d0c0000000-7ffd1f9f2000 ---p 00000000 00:00 0                  [rollup]",
    "Rss:              184320 kB",
    "Pss:               66048 kB",
    "Pss_Dirty:         60000 kB",
    "Pss_Anon:          59000 kB",
  ].join("\n");
  assert.equal(parsePss(rollup), 66_048 * 1024);
  assert.throws(() => parsePss("Rss: 1 kB\n"), /does not know/);
});

test("a file with a second name is somebody else's, too, and does not count", (t) => {
  const dir = mkdtempSync(join(tmpdir(), "hearth-bench-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const [shared, own] = [join(dir, "shared"), join(dir, "own")];
  for (const path of [shared, own]) mkdirSync(path);
  const before = ownBytesIn(own);
  writeFileSync(join(shared, "layer"), Buffer.alloc(256 * 1024, 1));
  linkSync(join(shared, "layer"), join(own, "layer"));
  assert.equal(ownBytesIn(own), before);
  writeFileSync(join(own, "disk"), Buffer.alloc(64 * 1024, 1));
  assert.ok(ownBytesIn(own) > before);
});
