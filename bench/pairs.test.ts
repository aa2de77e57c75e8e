import assert from "node:assert/strict";
import { test } from "node:test";
import { interleave, median, quantile, ratiosOf } from "./pairs.ts";

test("the two sides take turns, and take turns at being first", async () => {
  const order: string[] = [];
  const side = (name: string) => async (): Promise<number> => order.push(name);
  const pairs = await interleave(3, side("a"), side("b"));
  assert.equal(order.join(""), "abbaab");
  assert.deepEqual(pairs, { ours: [1, 4, 5], other: [2, 3, 6] });
});

test("a ratio is taken within its pair", () => {
  assert.deepEqual(ratiosOf({ ours: [2, 30], other: [1, 10] }), [2, 3]);
});

test("the median of an even number of values lies between the two in the middle", () => {
  assert.equal(median([9, 1, 5]), 5);
  assert.equal(median([4, 1, 3, 2]), 2.5);
  assert.ok(Number.isNaN(median([])));
});

test("nine of ten values do not exceed the ninth decile", () => {
  const values = [10, 9, 8, 7, 6, 5, 4, 3, 2, 1];
  assert.equal(quantile(values, 0.9), 9);
  assert.equal(quantile(values, 0.1), 1);
  assert.equal(quantile([7], 0.9), 7);
});
