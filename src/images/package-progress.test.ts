import assert from "node:assert/strict";
import { test } from "node:test";
import type { Progress } from "#base/progress.ts";
import { PackageProgress, parseAptSize } from "#images/package-progress.ts";

test("the output of apt and mmdebstrap becomes stages with bytes, and unknown lines are ignored", () => {
  const seen: Progress[] = [];
  const progress = new PackageProgress((one) => seen.push(one));
  for (const line of [
    "I: running apt-get update...",
    "Get:4 http://mirror.example/debian bookworm/main amd64 Packages [8790 kB]",
    "I: downloading packages with apt...",
    "Need to get 1,029 kB/29.7 MB of archives.",
    "Get:1 http://mirror.example/debian bookworm/main amd64 gcc-12-base amd64 12.2.0-14 [1000 kB]",
    "Get:2 http://mirror.example/debian bookworm/main amd64 libc6 amd64 2.36 [37.6 kB]",
    "something else",
    "I: extracting archives...",
  ]) {
    progress.line(line);
  }
  const stage = "packages";
  assert.deepEqual(seen, [
    { stage, text: "reading the package lists" },
    { stage, text: "downloading packages" },
    { stage, text: "downloading packages", doneBytes: 0, totalBytes: 29_700_000 },
    { stage, text: "downloading packages", doneBytes: 1_000_000, totalBytes: 29_700_000 },
    { stage, text: "downloading packages", doneBytes: 1_037_600, totalBytes: 29_700_000 },
    { stage, text: "unpacking packages" },
  ]);
});

test("apt's sizes are powers of 1000", () => {
  assert.equal(parseAptSize("37.6 kB"), 37_600);
  assert.equal(parseAptSize("1,234 B"), 1_234);
  assert.equal(parseAptSize("many"), undefined);
});
