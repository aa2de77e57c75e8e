import assert from "node:assert/strict";
import { test } from "node:test";
import { formatDuration, formatDurationRounded, parseDuration } from "#base/durations.ts";

const RANGE = { minMs: 1, maxMs: 365 * 86_400_000 };

for (const [text, ms] of [
  ["90s", 90_000],
  ["2h30m", 9_000_000],
  ["1d", 86_400_000],
  ["500ms", 500],
  ["1.5s", 1_500],
  ["1m500ms", 60_500],
] as const) {
  test(`the duration ${text} is ${ms} ms, and is printed as an equal duration`, () => {
    assert.equal(parseDuration("timeout", text, RANGE), ms);
    assert.equal(parseDuration("timeout", formatDuration(ms), RANGE), ms);
  });
}

for (const [text, problem, hint] of [
  ["", /a duration is required/, /90s/],
  ["10", /"10" has no unit/, /10s or 10m/],
  ["10x", /not a duration/, /90s/],
  ["30m2h", /not a duration/, /90s/],
  ["-1s", /not a duration/, /90s/],
  ["0s", /out of range/, /1ms to 365d/],
  ["366d", /out of range/, /1ms to 365d/],
] as const) {
  test(`the duration ${JSON.stringify(text)} is refused with an example of a valid one`, () => {
    assert.throws(() => parseDuration("timeout", text, RANGE), {
      code: "input.invalid",
      message: problem,
      hint,
    });
  });
}

test("durations in tables have the two largest units at most", () => {
  assert.deepEqual([500, 8_000, 723_000, 3_723_000, 273_600_000].map(formatDurationRounded), [
    "0s",
    "8s",
    "12m3s",
    "1h2m",
    "3d4h",
  ]);
});
