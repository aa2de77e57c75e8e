import assert from "node:assert/strict";
import { test } from "node:test";
import { TokenBucket } from "#base/token-bucket.ts";

test("a bucket allows a burst, then its rate, and after a long silence no more than a burst", () => {
  let nowMs = 5;
  const bucket = new TokenBucket({ perS: 2, burst: 3, now: () => nowMs });
  const taken = (): number => Array.from({ length: 10 }, () => bucket.take()).filter(Boolean).length;
  assert.equal(taken(), 3);
  nowMs += 499;
  assert.equal(taken(), 0);
  nowMs += 1;
  assert.equal(taken(), 1);
  nowMs += 1_000;
  assert.equal(taken(), 2);
  nowMs += 3_600_000;
  assert.equal(taken(), 3);
});
