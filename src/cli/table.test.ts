import assert from "node:assert/strict";
import { test } from "node:test";
import { renderTable } from "#cli/table.ts";

/** Renders a table and returns its rows without the head. */
function rows(names: readonly string[], width: number): readonly string[] {
  return renderTable(
    ["NAME", "STATE"],
    names.map((name) => [name, "running"]),
    width,
  )
    .trimEnd()
    .split("\n")
    .slice(1);
}

test("a long name is cut in its middle, and the line fits", () => {
  assert.deepEqual(rows([`first-${"x".repeat(60)}-last`], 24), ["first-x…xx-last  running"]);
});

test("two long names never look equal: where a cut would hide the difference, they are shown whole", () => {
  const ends = [`${"x".repeat(60)}1`, `${"x".repeat(60)}2`];
  for (const line of rows(ends, 40)) assert.ok(line.length <= 40, line);
  assert.equal(new Set(rows(ends, 40)).size, 2);
  const middles = [`${"x".repeat(30)}1${"x".repeat(30)}`, `${"x".repeat(30)}2${"x".repeat(30)}`];
  assert.deepEqual(
    rows(middles, 40).map((line) => line.split(" ")[0]),
    middles,
  );
});

test("columns after the names are cut at their end, to six characters at least", () => {
  const table = renderTable(["A", "WHAT", "MORE"], [["a", "a long text here", "another long text"]], 20);
  assert.equal(table, "A  WHAT     MORE\na  a long…  another…\n");
  assert.equal(renderTable(["A", "B"], [["a", "0123456789"]], 3), "A  B\na  01234…\n");
});
