import assert from "node:assert/strict";
import { test } from "node:test";
import { formatSize, formatSizeRounded, GIB, MIB, parseSize } from "#base/sizes.ts";

const RANGE = { minBytes: 1, maxBytes: 128 * GIB };

const TAKEN: { text: string; bytes: number }[] = [
  { text: "512M", bytes: 512 * MIB },
  { text: "512m", bytes: 512 * MIB },
  { text: " 4G ", bytes: 4 * GIB },
  { text: "1.5GiB", bytes: 1.5 * GIB },
  { text: "8GB", bytes: 8 * GIB },
  { text: "64K", bytes: 65_536 },
  { text: "128G", bytes: 128 * GIB },
  { text: "0.125T", bytes: 128 * GIB },
  { text: "1500B", bytes: 1_500 },
  { text: "7 b", bytes: 7 },
];
for (const { text, bytes } of TAKEN) {
  test(`the size ${JSON.stringify(text)} is ${bytes} bytes`, () => {
    assert.equal(parseSize("disk", text, RANGE), bytes);
  });
}

const REFUSED: { text: string; problem: RegExp; hint: RegExp }[] = [
  { text: "", problem: /disk: a size is required/, hint: /512M/ },
  { text: " ", problem: /disk: a size is required/, hint: /512M/ },
  { text: "1024", problem: /"1024" has no unit/, hint: /1024M or 1024G/ },
  { text: "0", problem: /has no unit/, hint: /number and a unit/ },
  { text: "-1G", problem: /"-1G" is not a size/, hint: /512M/ },
  { text: "5X", problem: /not a size/, hint: /512M/ },
  { text: "129G", problem: /129G is out of range/, hint: /from 1B to 128G/ },
  { text: "999999999999999T", problem: /out of range/, hint: /128G/ },
  { text: "1e3G", problem: /not a size/, hint: /512M/ },
  { text: "1.5B", problem: /not a size/, hint: /512M/ },
  { text: "B", problem: /not a size/, hint: /512M/ },
  { text: "0G", problem: /out of range/, hint: /128G/ },
];
for (const { text, problem, hint } of REFUSED) {
  test(`the size ${JSON.stringify(text)} is refused with an example of a valid one`, () => {
    assert.throws(() => parseSize("disk", text, RANGE), { code: "input.invalid", message: problem, hint });
  });
}

test("a printed size is read as the same size", () => {
  assert.equal(parseSize("budget", formatSize(0), { minBytes: 0, maxBytes: GIB }), 0);
  for (const bytes of [
    1,
    1_500,
    MIB + 1,
    1024,
    MIB,
    GIB,
    1.5 * GIB,
    1536 * MIB,
    8 * GIB,
    128 * GIB,
    1023 * MIB,
  ]) {
    assert.equal(parseSize("disk", formatSize(bytes), RANGE), bytes);
  }
});

test("bytes that are no whole unit are printed as bytes, and zero as zero", () => {
  assert.equal(formatSize(1500), "1500B");
  assert.equal(formatSize(0), "0B");
});

test("sizes for people have at most three digits", () => {
  assert.deepEqual([0, 999, 1023, 178 * MIB, 1.44 * GIB, 999 * MIB, 1001 * MIB].map(formatSizeRounded), [
    "0B",
    "999B",
    "1.0K",
    "178M",
    "1.4G",
    "999M",
    "1.0G",
  ]);
});
