import assert from "node:assert/strict";
import { test } from "node:test";
import { longestGap } from "./pause-watch.ts";

test("a pause is the longest time between two ticks, wherever it lies", () => {
  assert.equal(longestGap([10, 14, 18, 118, 122]), 100);
  assert.equal(longestGap([10, 60, 64]), 50);
  assert.equal(longestGap([10, 14, 64]), 50);
});

test("one tick alone shows no pause", () => {
  assert.equal(longestGap([10]), 0);
  assert.equal(longestGap([]), 0);
});
