import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { isPrintable, printable, printableLines, withoutControls } from "#base/printable.ts";

/** Sequences that a hostile guest may write: 7-bit, 8-bit, and those that reorder or hide text. */
const HOSTILE = {
  "a 7-bit escape sequence": "\u001b[2J",
  "an 8-bit escape sequence": "\u009b2J",
  "a window's title": "\u001b]0;owned\u0007",
  "an 8-bit window's title": "\u009d0;owned\u009c",
  "a sequence that does not end": "\u001b[",
  "an override of the direction": "\u202e",
  "an isolate": "\u2066",
  "a zero-width blank": "\u200b",
  "a line separator": "\u2028",
  "a tag character": "\u{e0041}",
  "half of a surrogate pair": "\ud800",
} as const;

describe("text that could change a terminal", () => {
  for (const [what, text] of Object.entries(HOSTILE)) {
    test(`is shown or removed: ${what}`, () => {
      assert.equal(isPrintable(text), false);
      const shown = printable(`a${text}b`);
      assert.match(shown, /^a\\[xu].*b$/);
      assert.equal(isPrintable(shown), true);
      const left = withoutControls(`a${text}b`);
      assert.equal(isPrintable(left), true);
      assert.match(left, /^a/);
    });
  }
});

test("letters of all scripts stay as they are", () => {
  const text = "eins дрей 四 é 😀";
  assert.equal(isPrintable(text), true);
  assert.equal(printable(text), text);
  assert.equal(withoutControls(text), text);
});

test("lines stay lines, without carriage returns", () => {
  assert.equal(printableLines("one\r\ntwo\u001b[1m\n"), "one\ntwo\\x1b[1m\n");
});

test("colours of a console are removed as a whole", () => {
  assert.equal(withoutControls("\u001b[1;31mred\u001b[0m\tplain\r"), "red plain");
});
