import assert from "node:assert/strict";
import { test } from "node:test";
import { wrapText } from "#cli/wrap-text.ts";

test("long text is broken between words, and continues below its beginning", () => {
  assert.deepEqual(wrapText("warn  smt: on, and that is a risk", 6, 16), [
    "warn  smt: on,",
    "      and that",
    "      is a risk",
  ]);
  assert.deepEqual(wrapText("      fix: do it", 6, 80), ["      fix: do it"]);
});

test("a word that is longer than the line is not broken, so that it can be copied", () => {
  assert.deepEqual(wrapText("see /a/very/long/path now", 2, 10), ["see", "  /a/very/long/path", "  now"]);
  assert.deepEqual(wrapText("", 2, 10), [""]);
});
