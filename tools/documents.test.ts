/** The documents: decision records have one form, and links lead to files and headings that exist. */
import assert from "node:assert/strict";
import { existsSync, globSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { test } from "node:test";

const ROOT = join(import.meta.dirname, "..");
const PAGES = globSync(["*.md", "docs/**/*.md"], { cwd: ROOT });
const RECORDS = PAGES.filter((path) => path.startsWith("docs/decisions/"));
const SECTIONS = ["Status", "Context", "Decision", "Consequences"];
const STATUS = /^(Proposed|Accepted|Replaced by \[\d{4}\])/;
const LINK = /\]\(([^)\s]+)\)/g;

function read(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

/** Lists the faults in the form of a decision record. */
function formProblems(name: string, text: string): string[] {
  const number = name.slice(0, 4);
  const title = /^# (\d{4}): \S.*\n/.exec(text)?.[1];
  const sections = [...text.matchAll(/^## (.*)$/gm)].map(([, section = ""]) => section);
  const status = /^## Status\n\n(.*)$/m.exec(text)?.[1] ?? "";
  return [
    ...(/^\d{4}-[a-z0-9-]+\.md$/.test(name) ? [] : [`its name is not NNNN-title.md`]),
    ...(title === number ? [] : [`its title does not begin with "# ${number}: "`]),
    ...(sections.join() === SECTIONS.join() ? [] : [`its sections are ${sections.join(", ")}`]),
    ...(STATUS.test(status) ? [] : [`its status is "${status}"`]),
  ];
}

/** Headings as the end of a link names them. */
function anchorsOf(text: string): Set<string> {
  return new Set(
    [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
        .replaceAll(" ", "-"),
    ),
  );
}

/** Links of a page to files or headings that do not exist, or to files outside of the project. */
function brokenLinks(path: string, text: string): string[] {
  return [...text.matchAll(LINK)].flatMap(([, target = ""]) => {
    if (/^[a-z]+:/.test(target)) return [];
    const [file = "", anchor] = target.split("#");
    const linked = file === "" ? path : join(dirname(path), file);
    if (linked.startsWith("..") || !existsSync(join(ROOT, linked))) return [`${path}: ${target}`];
    if (anchor === undefined) return [];
    const page = linked === path ? text : read(linked);
    return anchorsOf(page).has(anchor) ? [] : [`${path}: ${target}`];
  });
}

/** A source file that a page names in backticks: its path, or the end of it. */
const SOURCE = /`([\w./-]+\.(?:ts|go|sh))`/g;
/** These pages tell what is; the changelog tells what was. */
const NAMING_SOURCES = PAGES.filter((path) => path !== "CHANGELOG.md");
const SOURCES = globSync("{agent,bench,bin,e2e,examples,lab,src,tools}/**/*.{ts,go,sh}", { cwd: ROOT });

/** Source files that a page names and that do not exist. */
function missingSources(path: string, text: string): string[] {
  return [...text.matchAll(SOURCE)]
    .map(([, named = ""]) => named.replace(/^\.\//, ""))
    .filter((named) => !SOURCES.some((source) => source === named || source.endsWith(`/${named}`)))
    .map((named) => `${path}: ${named}`);
}

test("a record with another form, a link that leads nowhere, and a file that does not exist, are found", () => {
  assert.equal(formProblems("0001-x.md", "# 0001: X\n\n## Context\n").length, 2);
  assert.deepEqual(brokenLinks("README.md", "[a](STYLE.md) [b](docs/no.md) [c](../x) [d](#none)"), [
    "README.md: docs/no.md",
    "README.md: ../x",
    "README.md: #none",
  ]);
  assert.deepEqual(missingSources("a.md", "`documents.test.ts` `tools/none.ts`"), ["a.md: tools/none.ts"]);
});

test("every decision record has a title in plain words, Status, Context, Decision and Consequences", () => {
  assert.ok(RECORDS.length > 25, `${RECORDS.length} records were found`);
  const problems = RECORDS.flatMap((path) =>
    formProblems(basename(path), read(path)).map((problem) => `${path}: ${problem}`),
  );
  assert.deepEqual(problems, []);
});

test("no two decision records have one number", () => {
  const numbers = RECORDS.map((path) => basename(path).slice(0, 4));
  assert.deepEqual(
    numbers.filter((number, index) => numbers.indexOf(number) !== index),
    [],
  );
});

test("every link in the documents leads to a file of the project, and to a heading that it has", () => {
  assert.deepEqual(
    PAGES.flatMap((path) => brokenLinks(path, read(path))),
    [],
  );
});

test("every source file that the documents name exists", () => {
  assert.deepEqual(
    NAMING_SOURCES.flatMap((path) => missingSources(path, read(path))),
    [],
  );
});
