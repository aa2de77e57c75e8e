import assert from "node:assert/strict";
import { test } from "node:test";
import { MIB } from "#base/sizes.ts";
import { formatRateLimit, parseRateLimit } from "#model/rate-limit.ts";

for (const text of [
  "bw=10M/s",
  "ops=500/s",
  "bw=10M/s,ops=500/s",
  "bw=64K/s,burst=40M,ops=500/s,burst=1000",
  "ops=10/s,burst=10",
  "none",
]) {
  test(`${text} is a limit, and is printed unchanged`, () => {
    assert.equal(formatRateLimit(parseRateLimit("disk-limit", text)), text);
  });
}

test("a burst belongs to the rate before it, and order and spaces do not matter", () => {
  assert.deepEqual(parseRateLimit("disk-limit", "ops=100/s, burst=300, bw=1.5MiB/s"), {
    opsPerS: 100,
    opsBurst: 300,
    bandwidthBytesPerS: 1.5 * MIB,
  });
});

for (const [text, problem] of [
  ["", /is not a rate/],
  ["10M", /is not a rate/],
  ["bw=10M", /does not end in \/s/],
  ["bw=10/s", /has no unit/],
  ["bw=1K/s", /out of range/],
  ["bw=10M/s,bw=20M/s", /is not allowed here/],
  ["burst=10M", /is not allowed here/],
  ["bw=10M/s,burst=20M,burst=30M", /is not allowed here/],
  ["bw=10M/s,burst=1M", /at least as large as its rate/],
  ["ops=1.5/s", /not a number of operations/],
  ["ops=1/s", /not a number of operations/],
  ["speed=10M/s", /is not allowed here/],
  ["bw=10M/s,", /is not a rate/],
  ["none,bw=10M/s", /is not a rate/],
] as const) {
  test(`${JSON.stringify(text)} is refused: the message names the flag, the hint says how`, () => {
    assert.throws(
      () => parseRateLimit("disk-limit", text),
      (error: Error & { code?: string; hint?: string }) => {
        assert.equal(error.code, "input.invalid");
        assert.match(error.message, /^disk-limit: /);
        assert.match(error.message, problem);
        assert.ok((error.hint ?? "") !== "");
        return true;
      },
    );
  });
}
