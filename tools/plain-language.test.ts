/**
 * The rules of STYLE.md about language, as far as a program can tell. Exceptions are listed by name, with the reason.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { run } from "#host/run.ts";
import { SyntaxKind } from "typescript/unstable/ast";
import type { Node } from "typescript/unstable/ast";
import { findLines, isForTests, parseTypeScript, readSources, readTypeScript, ROOT } from "./source-files.ts";

/** Words that no identifier has as a part, and the glossary's word for each. */
const OUT: Readonly<Record<string, string>> = {
  asleep: "suspended",
  blank: "placeholder",
  confine: "isolate",
  cure: "fix",
  folder: "directory, dir",
  halt: "pause",
  hurry: "priority",
  judge: "probe, verdict",
  retire: "delete, unlist",
  scrap: "staging",
  settle: "finalize, verify, recover",
  sleepy: "suspending",
  stray: "orphan",
  trial: "verification, internal VM",
  wall: "isolation",
  weakness: "caveat, limitation",
  woken: "resumed",
};

/** Identifiers that have such a word all the same. */
const ALLOWED: Readonly<Record<string, string>> = {
  allSettled: "JavaScript's own",
  settled: "JavaScript's word for a promise that is resolved or rejected",
  wall: "the time of a clock on the wall, beside that of the CPU",
  wallMs: "the same, in milliseconds",
};

/** Files that may use all of them. */
const ABOUT_OLD_WORDS: Readonly<Record<string, string>> = {
  "src/daemon/store/older-state.test.ts": "reads what an older Hearth has stored",
  "src/daemon/store/stored-names.test.ts": "tests how stored names are migrated",
  "tools/plain-language.test.ts": "lists them",
};

/** Openings of a doc comment that leave out its subject or its verb. */
const NO_SENTENCE =
  /^(What|Of|One|Those|Who|Whose|Whoever|Which|Such|The same|To be|Nobody|Ours|Not|Never|Also|Else|And|But|Or)\b/;

/** Ids of lists that are not part of the repository. */
const FOREIGN_ID =
  /\b(?:BB|BG|SV|VS)-\d{3}\b|\((?:[RLH]\d{1,2}(?:, )?)+\)|["'`(, ][RLH]\d{1,2}(?=[:."'`),]| [a-z])/;

/** From the commit after this one on, subjects keep the rule. */
const RULE_SINCE = "b2f8372";
const SUBJECT_MAX = 72;
const NO_VERB = /^(a|an|the|what|of|one|no|who|how|when|where|it|its|all|each|every|new|more|\w+(ed|ing))$/;

const all = readTypeScript();
const trees = parseTypeScript();

function* nodesOf(node: Node): Generator<Node> {
  yield node;
  const children: Node[] = [];
  node.forEachChild((child) => void children.push(child));
  for (const child of children) yield* nodesOf(child);
}

/** Splits camelCase and CONSTANT_CASE; a plural counts as its singular. */
function partsOf(identifier: string): string[] {
  const parts = identifier.match(/[A-Z]?[a-z]+|[A-Z]+(?![a-z])/g) ?? [];
  return parts.map((part) => part.toLowerCase()).flatMap((part) => [part, part.replace(/(?:e?[sd])$/, "")]);
}

test("identifiers have the words of the glossary", () => {
  const found = new Set<string>();
  for (const [path, tree] of trees) {
    if (Object.hasOwn(ABOUT_OLD_WORDS, path)) continue;
    for (const node of nodesOf(tree)) {
      if (node.kind !== SyntaxKind.Identifier && node.kind !== SyntaxKind.PrivateIdentifier) continue;
      const name = node.getText(tree);
      if (Object.hasOwn(ALLOWED, name)) continue;
      const word = partsOf(name).find((part) => Object.hasOwn(OUT, part));
      if (word !== undefined) found.add(`${path}: ${name} (${word}: ${OUT[word]})`);
    }
  }
  assert.deepEqual([...found], []);
});

test("no file is named with a word that the glossary replaces", () => {
  const sources = [...all, ...readSources(["docs/**/*.md", "agent/**/*.go", "proto/**/*.proto"])];
  const named = sources.filter(({ path }) => partsOf(path).some((part) => Object.hasOwn(OUT, part)));
  assert.deepEqual(
    named.map(({ path }) => path),
    [],
  );
});

test("a doc comment begins with a verb, or with the noun that it describes", () => {
  const openings: string[] = [];
  for (const { path, text } of all) {
    for (const { 0: comment, index } of text.matchAll(/\/\*\*.*?\*\//gs)) {
      const opening = comment.replace(/^\/\*\*[\s*]*/, "");
      if (!NO_SENTENCE.test(opening)) continue;
      openings.push(`${path}:${text.slice(0, index).split("\n").length}: ${opening.slice(0, 60)}`);
    }
  }
  assert.deepEqual(openings, []);
});

test("no id of a list outside of the repository is in code, tests or documents", () => {
  const sources = [
    ...all,
    ...readSources(["agent/**/*.go", "proto/**/*.proto", "lab/**/*.ts", "*.md", "docs/**/*.md"]),
  ];
  const others = sources.filter(({ path }) => path !== "tools/plain-language.test.ts");
  assert.deepEqual(findLines(others, FOREIGN_ID), []);
});

test("nothing points to a file outside of the repository", () => {
  const sources = [...all, ...readSources(["agent/**/*.go", "lab/**/*.ts", "*.md", "docs/**/*.md"])];
  const others = sources.filter(({ path }) => path !== "tools/plain-language.test.ts");
  assert.deepEqual(findLines(others, /\.\.\/shared\/|\(design(:| §)|reliability list|requirements list/), []);
});

test("a test's name has the words of the glossary", () => {
  const titles = [...all, ...readSources(["lab/**/*.ts"])].filter(
    ({ path }) => isForTests(path) || path.startsWith("lab/"),
  );
  assert.deepEqual(
    findLines(
      titles,
      /^\s*(?:test|describe)\((["'`]).*\b(nobody|go(es)? on|asleep|woken|wakes|walls?)\b(?!}).*\1/,
    ),
    [],
  );
});

test(`a commit's subject has at most ${SUBJECT_MAX} characters and begins with a verb after its area`, async (t) => {
  const args = ["log", "--no-merges", "--format=%s", `${RULE_SINCE}..HEAD`];
  const log = await run("git", args, { cwd: ROOT, timeoutMs: 10_000, signal: t.signal });
  if (!log.ok) return t.skip("the history is not here: this is no clone, or a shallow one");
  const subjects = log.stdout.split("\n").filter(Boolean);
  const wrong = subjects.filter((subject) => {
    const [, first = ""] = /^[^:]+: (\w+)/.exec(subject) ?? [];
    return subject.length > SUBJECT_MAX || first === "" || NO_VERB.test(first) || subject.includes(";");
  });
  assert.deepEqual(wrong, []);
});
