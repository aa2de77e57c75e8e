import assert from "node:assert/strict";
import { test } from "node:test";
import { describeLine, assess, TABLE_HEAD } from "./line.ts";
import type { Line } from "./line.ts";

const slower: Line = {
  what: "a",
  unit: "ms",
  ours: [30, 12, 11],
  other: [10, 10, 10],
  bound: { atMost: 1.2 },
};

test("the median ratio decides, and one slow pair is seen in the p90", () => {
  assert.deepEqual(assess(slower), { median: 1.2, p90: 3, ok: true });
});

test("of a bound from below, the p90 is on the bad side too", () => {
  const line: Line = { ...slower, unit: "MB/s", ours: [5, 8, 9], bound: { atLeast: 0.7 } };
  assert.deepEqual(assess(line), { median: 0.8, p90: 0.5, ok: true });
});

test("without another side the bound is one of the value", () => {
  assert.equal(assess({ what: "a", unit: "MiB", ours: [8], bound: { atMost: 8 } }).ok, true);
  assert.equal(assess({ what: "a", unit: "MiB", ours: [8.1], bound: { atMost: 8 } }).ok, false);
});

test("the table has 80 columns at most", () => {
  const long: Line = {
    what: "x".repeat(99),
    unit: "MB/s",
    ours: [123_456],
    other: [123_456],
    bound: { atLeast: 0.7 },
  };
  for (const text of [TABLE_HEAD, describeLine(long)]) assert.ok(text.length <= 80, text);
});
