/**
 * Holds what users read to one word per concept: help, docs/errors.md and the OpenAPI document. docs/glossary.md has the
 * words.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { COMMANDS } from "#cli/command-table.ts";
import { allFlags } from "#cli/parse.ts";
import { errorPage, openApiDocument } from "./generate-openapi.ts";

/** Each word that is out, with the one in its place. */
const OUT: readonly (readonly [word: RegExp, instead: string])[] = [
  [/\bgoes on\b|\bgo on\b|\bwent on\b/i, "continue"],
  [/\bhalt(s|ed)?\b|\bstands? still\b/i, "pause"],
  [/\basleep\b|\bsleep(s|ing)?\b/i, "suspended"],
  [/\bwakes?\b|\bwoken\b/i, "resume"],
  [/\bgive[sn]? up\b|\bgave up\b/i, "cancel, fall back, discard"],
  [/\bforgets?\b|\bforgotten\b/i, "delete"],
  [/\btak(es?|en) (back|away)\b/i, "undo, remove"],
  [/\bwalls?\b|\bconfined?\b/i, "isolation"],
  [/\bwhat was saved\b|\bsaved state\b/i, "snapshot"],
  [/\bwarm templates?\b/i, "template"],
  [/\bfolders?\b/i, "directory"],
  [/\bcures?\b/i, "fix"],
  [/\bstrays?\b/i, "orphan"],
  [/\bnobody\b|\bsomebody\b/i, "no one, or the actor"],
  [/\bunless (told|given)\b/i, "(default: …)"],
];

function problemsIn(source: string, text: string): string[] {
  return text
    .split("\n")
    .flatMap((line) =>
      OUT.filter(([word]) => word.test(line)).map(([, instead]) => `${source}: ${line.trim()} (${instead})`),
    );
}

/** All texts of a command's help, without its aliases. */
async function helpTexts(): Promise<string> {
  const texts: string[] = [];
  for (const row of Object.values(COMMANDS)) {
    const { summary, about = "", args, examples, ...command } = (await row.load()).default;
    const flags = Object.values(allFlags({ summary, args, examples, ...command })).map(({ help }) => help);
    texts.push(summary, about, ...args.map(({ help = "" }) => help), ...flags, ...examples.flat());
  }
  return texts.join("\n");
}

test("a word that is out is found", () => {
  assert.deepEqual(problemsIn("help", "Pause VMs\nLet VMs go on"), ["help: Let VMs go on (continue)"]);
});

test("help, the page of errors and the OpenAPI document have one word per concept", async () => {
  assert.deepEqual(
    [
      ...problemsIn("help", await helpTexts()),
      ...problemsIn("errors.md", errorPage()),
      ...problemsIn("openapi.json", await openApiDocument()),
      ...problemsIn(
        "help.snapshot.txt",
        readFileSync(join(import.meta.dirname, "../src/cli/help.snapshot.txt"), "utf8"),
      ),
    ],
    [],
  );
});
