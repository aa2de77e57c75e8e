import assert from "node:assert/strict";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { BalloonProgress } from "#drivers/balloon-progress.ts";

const PATIENCE = { stuckAfterMs: 5_000, totalMs: 120_000 };

/** Returns how long a guest is waited for that is looked at every 50 ms. */
function waitedMs(t: TestContext, bytesAt: (ms: number) => number): number {
  let nowMs = 1_000;
  t.mock.method(performance, "now", () => nowMs);
  const progress = new BalloonProgress(0, PATIENCE);
  while (progress.isUnderWay(bytesAt(nowMs - 1_000))) nowMs += 50;
  t.mock.reset();
  return nowMs - 1_000;
}

test("a guest that makes progress is waited for until it has the size it was asked for", (t) => {
  assert.equal(
    waitedMs(t, (ms) => 10_000 - ms),
    10_000,
  );
});

test("a guest that does not move, or goes up and down, is waited for a few seconds", (t) => {
  assert.equal(
    waitedMs(t, () => 7),
    PATIENCE.stuckAfterMs,
  );
  const swinging = waitedMs(t, (ms) => (Math.floor(ms / 1_000) % 2 === 0 ? 8 : 9));
  assert.equal(swinging, PATIENCE.stuckAfterMs);
});

test("the wait for a guest that makes hardly any progress ends", (t) => {
  assert.equal(
    waitedMs(t, (ms) => 2 ** 40 - ms),
    PATIENCE.totalMs,
  );
});
