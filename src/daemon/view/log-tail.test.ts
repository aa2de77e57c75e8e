import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { TestContext } from "node:test";
import { consoleEnd, lastLines } from "#daemon/view/log-tail.ts";

function logOf(t: TestContext, lines: readonly string[]): string {
  const dir = mkdtempSync(join(tmpdir(), "hearth-log-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const path = join(dir, "console.log");
  writeFileSync(path, lines.map((line) => `${line}\r\n`).join(""));
  return path;
}

const numbered = (word: string, count: number): string[] =>
  Array.from({ length: count }, (_, index) => `${word} ${index}`);

describe("the end of a guest's console", () => {
  test("is its last lines", (t) => {
    const path = logOf(t, numbered("line", 50));
    assert.deepEqual(consoleEnd(path, 3), ["line 47", "line 48", "line 49"]);
  });

  test("is where the kernel panicked, with what led to it, and not the end of its stack", (t) => {
    const path = logOf(t, [...numbered("line", 50), "Kernel panic - not syncing", ...numbered("stack", 30)]);
    assert.deepEqual(consoleEnd(path, 4), ["line 48", "line 49", "Kernel panic - not syncing", "stack 0"]);
  });

  test("is all of it when there are few lines, and nothing when there is no file", (t) => {
    assert.deepEqual(consoleEnd(logOf(t, ["Kernel panic", "stack"]), 12), ["Kernel panic", "stack"]);
    assert.deepEqual(consoleEnd("/nowhere/console.log", 12), []);
  });
});

test("a log's last lines have nothing in them that moves a terminal's cursor", (t) => {
  assert.deepEqual(lastLines(logOf(t, ["\u001b[2Jcleared", "\u001b[31mred\u001b[0m"]), 5), [
    "cleared",
    "red",
  ]);
});

test("a log's last lines have no 8-bit escape sequence in them, and nothing that turns text around", (t) => {
  const lines = ["\u009b2Jcleared", "\u009d0;owned\u009ctitle", "ro\u202etxt.exe", "a\u2066b\u200bc"];
  assert.deepEqual(lastLines(logOf(t, lines), 5), ["cleared", "title", "rotxt.exe", "abc"]);
});
