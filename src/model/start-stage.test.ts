import assert from "node:assert/strict";
import { test } from "node:test";
import { StageClock } from "#model/start-stage.ts";

test("each stage begins at the end of the one before, and a second try is added", () => {
  let nowMs = 100;
  const clock = new StageClock(() => nowMs);
  for (const [stage, tookMs] of [
    ["host", 1.4],
    ["disk", 2],
    ["vmm", 30],
    ["guest", 400],
    ["vmm", 20],
    ["guest", 500],
  ] as const) {
    nowMs += tookMs;
    clock.end(stage);
  }
  assert.deepEqual(clock.stages, [
    { stage: "host", tookMs: 1 },
    { stage: "disk", tookMs: 2 },
    { stage: "vmm", tookMs: 50 },
    { stage: "guest", tookMs: 900 },
  ]);
});
