/** The style, as far as a program can tell. Exceptions are listed by name, with the reason. */
import assert from "node:assert/strict";
import { basename } from "node:path";
import { test } from "node:test";
import { type Node, type SourceFile, SyntaxKind } from "typescript/unstable/ast";
import {
  findLines,
  importsOf,
  isForTests,
  parseTypeScript,
  readSources,
  readTypeScript,
} from "./source-files.ts";

const FILE_MAX_LINES = 400;
const FUNCTION_MAX_LINES = 60;
const DOCUMENTED_MIN_SHARE = 0.8;

/** Files that may start programs besides src/host/run.ts. */
const MAY_START_PROGRAMS: Readonly<Record<string, string>> = {
  "src/host/run.ts": "the one door: no shell, a fixed environment, a deadline, bounded output",
  "src/cli/until-gone.test.ts": "waits for the ends of processes of its own",
  "src/base/exit-process.test.ts": "is about how a process of its own ends",
  "src/testing/apart-hearthd.ts": "starts hearthd and its helper with the ends of one socket",
  "src/testing/pasta-scenarios.ts": "kills a process of its own while it makes a network",
  "src/testing/port-pair.ts": "starts the helper with a socket as its fd 3",
  "tools/dev.ts": "hands the terminal to the tools that it runs, which the door never does",
};
/** Directories whose files start programs because that is what they are about. */
const DIRS_THAT_START_PROGRAMS = [
  "bench/", // Measures whole programs, and the door would be part of the time.
  "e2e/", // Uses the command as a person does: with pipes, terminals and signals.
];
/** Names that say nothing of what is inside, and so collect everything. */
const EMPTY_NAMES = /^(utils?|helpers?|common|misc|shared|manager|types|index|constants|lib)(\.test)?\.ts$/;

const all = readTypeScript();
const trees = parseTypeScript();
const goSources = readSources(["agent/**/*.go"]);

function* nodesOf(node: Node): Generator<Node> {
  yield node;
  const children: Node[] = [];
  node.forEachChild((child) => void children.push(child));
  for (const child of children) yield* nodesOf(child);
}

function lineOf(tree: SourceFile, position: number): number {
  return tree.getLineAndCharacterOfPosition(position).line + 1;
}

function isFunction({ kind }: Node): boolean {
  return (
    kind === SyntaxKind.FunctionDeclaration ||
    kind === SyntaxKind.FunctionExpression ||
    kind === SyntaxKind.ArrowFunction ||
    kind === SyntaxKind.MethodDeclaration ||
    kind === SyntaxKind.Constructor
  );
}

/** The body of `describe` is a list of tests, each with its own length. */
function isSuite(tree: SourceFile, node: Node): boolean {
  const { parent } = node;
  return parent.kind === SyntaxKind.CallExpression && /^(describe|suite)\b/.test(parent.getText(tree));
}

test("every file of ours is parsed, so that no rule is skipped", () => {
  const missing = all.filter(({ path }) => !trees.has(path)).map(({ path }) => path);
  assert.deepEqual(missing, []);
});

test(`a file has at most ${FILE_MAX_LINES} lines`, () => {
  const long = [...all, ...goSources].filter(({ lines }) => lines > FILE_MAX_LINES);
  assert.deepEqual(
    long.map(({ path, lines }) => `${path}: ${lines}`),
    [],
  );
});

test(`a function has at most ${FUNCTION_MAX_LINES} lines`, () => {
  const long: string[] = [];
  for (const [path, tree] of trees) {
    for (const node of nodesOf(tree)) {
      if (!isFunction(node) || isSuite(tree, node)) continue;
      const start = lineOf(tree, node.getStart(tree));
      const lines = lineOf(tree, node.end) - start + 1;
      if (lines > FUNCTION_MAX_LINES) long.push(`${path}:${start}: ${lines}`);
    }
  }
  for (const { path, text } of goSources) {
    // gofmt puts the end of a function, and of nothing else in it, into the first column.
    for (const { 0: body, index } of text.matchAll(/^func [^\n]*\{\n[\s\S]*?^\}/gm)) {
      const lines = body.split("\n").length;
      if (lines > FUNCTION_MAX_LINES)
        long.push(`${path}:${text.slice(0, index).split("\n").length}: ${lines}`);
    }
  }
  assert.deepEqual(long, []);
});

test("no two files of src/daemon share a name", () => {
  const seen = new Map<string, string>();
  for (const { path } of all.filter((file) => file.path.startsWith("src/daemon/"))) {
    const name = basename(path);
    assert.equal(seen.get(name), undefined, `${path} is named as another file`);
    seen.set(name, path);
  }
});

test("the names of files on disk stand in one place", () => {
  const place = "src/base/file-names.ts";
  const names = [...(all.find(({ path }) => path === place)?.text ?? "").matchAll(/"([a-z]+\.[a-z0-9]+)"/g)];
  assert.ok(names.length > 10, "they were found");
  const product = all.filter((source) => /^(src|bin)\//.test(source.path) && !isForTests(source.path));
  for (const { path, text } of product)
    for (const [quoted] of names)
      assert.ok(path === place || !text.includes(quoted), `${path} has ${quoted} of its own`);
});

test("only one file starts programs", () => {
  for (const source of all) {
    const starts = importsOf(source).some(
      ({ from, typeOnly }) => !typeOnly && /child_process|^execa$/.test(from),
    );
    if (!starts || DIRS_THAT_START_PROGRAMS.some((dir) => source.path.startsWith(dir))) continue;
    assert.ok(source.path in MAY_START_PROGRAMS, `${source.path} starts programs: use #host/run.ts`);
  }
});

test("an error that is caught is handled, or a comment says why not", () => {
  const silent: string[] = [];
  for (const { path, text } of all) {
    const lines = text.split("\n");
    for (const [at, line] of lines.entries()) {
      if (!/\.catch\(\(\w*\) => (undefined|null|\{\s*\})\)/.test(line)) continue;
      if (!/\/\/|^\s*\*/.test(`${lines[at - 1]}\n${line}`)) silent.push(`${path}:${at + 1}: ${line.trim()}`);
    }
  }
  for (const [path, tree] of trees) {
    for (const node of nodesOf(tree)) {
      if (node.kind !== SyntaxKind.CatchClause) continue;
      if (/^catch\s*(\([^)]*\))?\s*\{\s*\}$/.test(node.getText(tree))) {
        silent.push(`${path}:${lineOf(tree, node.getStart(tree))}`);
      }
    }
  }
  assert.deepEqual(silent, []);
});

test("no clean-up that fails replaces the error that it follows: failAfter tells both", () => {
  const cleansUpAndThrows = /^catch \((\w+)\) \{(?:\s*\/\/[^\n]*)*\s*await (?!failAfter)[^;]*;\s*throw \1;/;
  const hiding: string[] = [];
  for (const [path, tree] of trees) {
    for (const node of nodesOf(tree)) {
      if (node.kind !== SyntaxKind.CatchClause || path.endsWith(".test.ts")) continue;
      if (cleansUpAndThrows.test(node.getText(tree)))
        hiding.push(`${path}:${lineOf(tree, node.getStart(tree))}`);
    }
  }
  assert.deepEqual(hiding, []);
});

test("a file's name says what is inside, in kebab-case", () => {
  for (const { path } of all) {
    const name = basename(path);
    assert.doesNotMatch(name, EMPTY_NAMES, path);
    assert.match(name, /^[a-z0-9]+(-[a-z0-9]+)*(\.test|\.e2e)?\.ts$/, path);
  }
});

/** Functions, classes and constants that are functions; types often say all with their name. */
function exportedWithComment(tree: SourceFile): { name: string; documented: boolean }[] {
  return tree.statements.flatMap((statement) => {
    const text = statement.getText(tree);
    const [, name] =
      /^export (?:default )?(?:async )?(?:abstract )?(?:function\*?|class) (\w+)/.exec(text) ??
      /^export const (\w+)[^=]*=\s*(?:async )?(?:\(|function)/.exec(text) ??
      [];
    if (name === undefined) return [];
    return [{ name, documented: statement.jsDoc !== undefined && statement.jsDoc.length > 0 }];
  });
}

test(`of the exported functions and classes ${DOCUMENTED_MIN_SHARE * 100} % say what they promise`, () => {
  const layers = new Map<string, { documented: number; bare: string[] }>();
  for (const [path, tree] of trees) {
    if (path.endsWith(".test.ts")) continue;
    const dir = path
      .split("/")
      .slice(0, path.startsWith("src/") ? 2 : 1)
      .join("/");
    const layer = layers.get(dir) ?? { documented: 0, bare: [] };
    layers.set(dir, layer);
    for (const { name, documented } of exportedWithComment(tree)) {
      if (documented) layer.documented++;
      else layer.bare.push(`${path}: ${name}`);
    }
  }
  for (const [dir, { documented, bare }] of layers) {
    const share = documented / (documented + bare.length);
    const why = `${dir}: ${Math.floor(share * 100)} %; without a comment:\n  ${bare.join("\n  ")}`;
    assert.ok(bare.length === 0 || share >= DOCUMENTED_MIN_SHARE, why);
  }
});

test("nothing is left for later in a comment", () => {
  // In parts, so that this file passes its own test.
  const marks = [
    ["TO", "DO"],
    ["FIX", "ME"],
    ["XX", "X"],
  ].map((parts) => parts.join(""));
  assert.deepEqual(findLines([...all, ...goSources], new RegExp(`\\b(${marks.join("|")})\\b`)), []);
});

test("no path of somebody's machine is in the code", () => {
  const shipped = [...all, ...goSources].filter(({ path }) => !path.endsWith(".test.ts"));
  assert.deepEqual(findLines(shipped, /["'`](file:\/\/)?\/(home|Users|work)\/[a-z]/), []);
});

test("output speaks in words, without emoji", () => {
  const shipped = [...all, ...goSources].filter(({ path }) => !isForTests(path));
  assert.deepEqual(findLines(shipped, /\p{Emoji_Presentation}/u), []);
});

test("no hint names a command that removes or moves what somebody may want to keep", () => {
  const shipped = all.filter(({ path }) => !isForTests(path) && !path.endsWith(".test.ts"));
  // An image can be built again. The one that asks for it names the flag for where nobody can be asked.
  const others = shipped.filter(({ path }) => path !== "src/cli/commands/vm/prune.ts");
  const named = /\b(hint|fix)\b.*(hearth (rm|prune|snapshot rm|volume rm)\b|\b(mv|(?<!image )rm) -?[\w/$])/;
  assert.deepEqual(findLines(others, named), []);
});
