/** Reads the sources for the tests of style: our files, and the compiler's syntax trees of them. */
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { API } from "typescript/unstable/sync";
import type { SourceFile } from "typescript/unstable/ast";

/** The checkout. */
export const ROOT = join(import.meta.dirname, "..");

const GENERATED = ["src/guest/gen/", "agent/gen/"];

/** A file of the repository; `path` is relative to the checkout. */
export type Source = {
  readonly path: string;
  readonly text: string;
  readonly lines: number;
};

/** Files by patterns relative to the checkout, sorted; generated ones are left out. */
export function readSources(patterns: readonly string[]): readonly Source[] {
  return globSync([...patterns], { cwd: ROOT })
    .filter((path) => !GENERATED.some((dir) => path.startsWith(dir)) && !path.includes("node_modules"))
    .toSorted()
    .map((path) => {
      const text = readFileSync(join(ROOT, path), "utf8");
      return { path, text, lines: text.split("\n").length - 1 };
    });
}

/** All TypeScript of ours, tests among it. */
export function readTypeScript(): readonly Source[] {
  return readSources(["src/**/*.ts", "bin/*.ts", "tools/**/*.ts", "e2e/**/*.ts", "bench/**/*.ts"]);
}

/** True for files that only tests load. */
export function isForTests(path: string): boolean {
  return path.endsWith(".test.ts") || path.startsWith("src/testing/") || path.startsWith("e2e/");
}

/** The compiler's syntax trees, by path as in `readTypeScript`. Takes about a second. */
export function parseTypeScript(): ReadonlyMap<string, SourceFile> {
  const api = new API({ cwd: ROOT });
  try {
    const config = join(ROOT, "tsconfig.json");
    const program = api.updateSnapshot({ openProject: config }).getProject(config)?.program;
    const trees = new Map<string, SourceFile>();
    for (const { path } of readTypeScript()) {
      const tree = program?.getSourceFile(join(ROOT, path));
      if (tree !== undefined) trees.set(path, tree);
    }
    return trees;
  } finally {
    api.close();
  }
}

/** Returns the imports of a file, found in its text: dynamic imports and re-exports count, comments do not. */
export function importsOf(source: Source): readonly { from: string; typeOnly: boolean }[] {
  const found: { from: string; typeOnly: boolean }[] = [];
  const statement = /^(?:import|export)\s+(type\s+)?(?:[^"';]*?\sfrom\s+)?"([^"]+)"/gm;
  for (const [, type, from = ""] of source.text.matchAll(statement))
    found.push({ from, typeOnly: type !== undefined });
  const expression = /(typeof\s+)?(?:\bimport|getBuiltinModule)\(\s*"([^"]+)"/g;
  for (const [, type, from = ""] of source.text.matchAll(expression)) {
    found.push({ from, typeOnly: type !== undefined });
  }
  return found;
}

/** Where a pattern is found, as `file:line: text`. */
export function findLines(sources: readonly Source[], pattern: RegExp): string[] {
  return sources.flatMap(({ path, text }) =>
    text.split("\n").flatMap((line, at) => (pattern.test(line) ? [`${path}:${at + 1}: ${line.trim()}`] : [])),
  );
}
