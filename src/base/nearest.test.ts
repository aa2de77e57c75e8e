import assert from "node:assert/strict";
import { test } from "node:test";
import { nearest } from "#base/nearest.ts";

const KNOWN = ["run", "rm", "restart", "resume", "exec", "image"];

for (const [word, meant] of [
  ["rnu", "run"],
  ["exce", "exec"],
  ["restrat", "restart"],
  ["imag", "image"],
  ["res", "restart"],
  ["x", undefined],
  ["firewall", undefined],
] as const) {
  test(`the word nearest to ${word} is ${meant ?? "none"}`, () => {
    assert.equal(nearest(word, KNOWN), meant);
  });
}
