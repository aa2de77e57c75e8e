import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { shownFlags } from "#cli/parse.ts";
import { longFlag } from "#cli/command.ts";
import { findCommand } from "#cli/find-command.ts";
import { IMAGE_ARGUMENT } from "#cli/image-argument.ts";
import { fullRef, KNOWN_REFS } from "#images/recipes.ts";

const ROOT = join(import.meta.dirname, "..");
/** Pages and sources that tell a user what to type. Decisions and the changelog tell what once was. */
const NAMING = ["*.md", "docs/*.md", "src/**/*.ts", "tools/error-meanings.ts"];
const LEFT_OUT = /CHANGELOG\.md$|\.test\.ts$|\/testing\//;
/** A command in backticks, or on a line of its own in a block of code. */
const NAMED = /`(?:\.\/)?hearth ([a-z][^`\\\n]*)\\?`|^(?:\.\/)?hearth ([a-z][^#\n]*)/gm;
/** A message that begins like a command. */
const PROSE = /^does not /;
/** `hearth start|stop VM` names two. */
const EITHER = /^([a-z ]*?)([a-z]+(?:\|[a-z]+)+)(.*)$/s;

type Named = { readonly file: string; readonly text: string };

function namedCommands(): Named[] {
  return globSync(NAMING, { cwd: ROOT })
    .filter((file) => !LEFT_OUT.test(file))
    .flatMap((file) =>
      [...readFileSync(join(ROOT, file), "utf8").matchAll(NAMED)].flatMap(([, quoted, line]) =>
        eachOf((quoted ?? line ?? "").trim()).map((text) => ({ file, text })),
      ),
    )
    .filter(({ text }) => !PROSE.test(text));
}

function eachOf(text: string): string[] {
  const [, before = "", words = "", after = ""] = EITHER.exec(text) ?? [];
  return words === "" ? [text] : words.split("|").map((word) => `${before}${word}${after}`);
}

/** Returns the fault of a command that a user is told to type. */
async function problemOf(text: string): Promise<string | undefined> {
  const [words = ""] = text.split(/\s--(?:\s|$)|\s[|;&>]|\$\(/);
  const found = findCommand(words.split(/\s+/));
  if (found === undefined) return "there is no such command";
  const { default: command } = await found.load();
  const known = new Set(Object.keys(shownFlags(command)).map(longFlag));
  const unknown = [...words.matchAll(/(?<=[\s[])--([a-z][a-z-]*)/g)].find(
    ([, flag = ""]) => !known.has(`--${flag}`),
  );
  return unknown === undefined ? undefined : `it has no ${unknown[0]}`;
}

test("a command that does not exist, or a flag, is found", async () => {
  assert.equal(await problemOf("strat web"), "there is no such command");
  assert.equal(await problemOf("start --fersh web"), "it has no --fersh");
  assert.equal(await problemOf("run --rm debian -- ls --color"), undefined);
});

test("every command that pages, helps and hints name exists, with its flags", async () => {
  const named = namedCommands();
  assert.ok(named.length > 200, `${named.length} commands were found`);
  const problems = await Promise.all(
    named.map(async ({ file, text }) => {
      const problem = await problemOf(text);
      return problem === undefined ? [] : [`${file}: hearth ${text}: ${problem}`];
    }),
  );
  assert.deepEqual(problems.flat(), []);
});

test("the help names every image that can be built, with every tag and the default one", () => {
  const { help } = IMAGE_ARGUMENT;
  const names = help.match(/debian[a-z-]*/g) ?? [];
  const tags = help.match(/:[a-z]+/g) ?? [];
  const refs = names.flatMap((name) => tags.map((tag) => `${name}${tag}`));
  assert.deepEqual(refs.toSorted(), KNOWN_REFS.toSorted());
  assert.equal(fullRef("debian"), `debian${/(:[a-z]+) \(default\)/.exec(help)?.[1]}`);
});

test("every target of make that pages and hints name exists", () => {
  const targets = new Set(
    [...readFileSync(join(ROOT, "Makefile"), "utf8").matchAll(/^([a-z0-9-]+):/gm)].map(([, name]) => name),
  );
  assert.ok(targets.has("test"), "targets are found");
  const named = globSync(NAMING, { cwd: ROOT })
    .filter((file) => !LEFT_OUT.test(file))
    .flatMap((file) =>
      [...readFileSync(join(ROOT, file), "utf8").matchAll(/`make ([a-z0-9-]+)`/g)].map(([, name]) => ({
        file,
        name,
      })),
    );
  assert.ok(named.length > 5, `${named.length} targets were named`);
  assert.deepEqual(
    named.filter(({ name }) => !targets.has(name)),
    [],
  );
});
