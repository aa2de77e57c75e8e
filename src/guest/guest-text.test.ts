import assert from "node:assert/strict";
import { test } from "node:test";
import { guestText } from "#guest/guest-text.ts";

test("no escape sequence of a guest reaches a terminal", () => {
  assert.equal(guestText("\x1b]0;owned\x07\x9b31mred", 100), "\\x1b]0;owned\\x07\\x9b31mred");
});

test("characters that reorder or hide text are shown as escapes", () => {
  assert.equal(guestText("a\u202Eb\u200Bc\u2028d", 100), "a\\u202eb\\u200bc\\u2028d");
});

test("lines become one line, and letters of all scripts stay", () => {
  assert.equal(guestText("eins\nzwei\tдрей 四", 100), "eins zwei дрей 四");
});

test("length is bounded", () => {
  assert.equal(guestText("x".repeat(1_000_000), 10), `${"x".repeat(10)}…`);
});
