/** docs/reliability.md names tests; each has to exist, so that no promise is left without one. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

const ROOT = join(import.meta.dirname, "..");
const PAGE = "docs/reliability.md";
/** The last cell of a row: a file, and the names of tests in it. */
const NAMED_TESTS = /`((?:e2e|lab|src)\/[^`]+\.test\.ts)`: ((?:"[^"]+"(?:, )?)+)/g;
/** A name in the code: the first argument of a test or a group of tests. */
const DECLARED = /\b(?:test|describe|crashTest)\(\s*(?:"((?:[^"\\]|\\.)*)"|`((?:[^`\\]|\\.)*)`)/g;

/** Names as the page has them: "…" for each part that differs from one run of the test to the next. */
function testNames(source: string): Set<string> {
  return new Set(
    [...source.matchAll(DECLARED)].map(([, text, template = ""]) => plainName(text ?? template)),
  );
}

function plainName(name: string): string {
  return name
    .replaceAll(/\$\{[^}]*\}/g, "…")
    .replaceAll(/\\(.)/g, "$1")
    .replaceAll(/[`"]/g, "'")
    .replace(/^([A-Z]+-?\d+(, )?)+: /, "")
    .replace(/:$/, "");
}

/** Lists the tests that the page names and that do not exist. */
function missingTests(page: string, read: (path: string) => string | undefined): string[] {
  return [...page.matchAll(NAMED_TESTS)].flatMap(([, path = "", names = ""]) => {
    const source = read(path);
    if (source === undefined) return [`${path} does not exist`];
    const declared = testNames(source);
    return [...names.matchAll(/"([^"]+)"/g)]
      .map(([, name = ""]) => name)
      .filter((name) => !declared.has(name))
      .map((name) => `${path} has no test "${name}"`);
  });
}

test("a file that does not exist, and a test with another name, are found", () => {
  const sources = new Map([["e2e/a.test.ts", 'test("it holds");\ndescribe(`after ${what} at "x":`)']]);
  const page =
    '| `e2e/a.test.ts`: "it holds", "after … at \'x\'" |\n| `e2e/b.test.ts`: "c" |\n| `e2e/a.test.ts`: "d" |';
  assert.deepEqual(
    missingTests(page, (path) => sources.get(path)),
    ["e2e/b.test.ts does not exist", 'e2e/a.test.ts has no test "d"'],
  );
});

test("every test that docs/reliability.md names exists, and every row names one", () => {
  const page = readFileSync(join(ROOT, PAGE), "utf8");
  const rows = page.split("\n").filter((line) => /^\| [^-]/.test(line) && !line.startsWith("| failure "));
  assert.ok(rows.length > 40, `${rows.length} rows were found`);
  assert.deepEqual(
    rows.filter((row) => row.match(NAMED_TESTS) === null),
    [],
  );
  const read = (path: string): string | undefined =>
    existsSync(join(ROOT, path)) ? readFileSync(join(ROOT, path), "utf8") : undefined;
  assert.deepEqual(missingTests(page, read), []);
});
