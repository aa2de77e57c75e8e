/**
 * Shows how much of the sources real runs reach, by directory: `node tools/dev.ts coverage [WORDS]` runs e2e tests,
 * in which Node writes down for each process which functions were called (NODE_V8_COVERAGE), and adds that up. A
 * hearthd that a test kills writes nothing, so the numbers are a lower bound.
 */
import { globSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { pathToFileURL } from "node:url";

type V8Function = {
  readonly functionName: string;
  readonly ranges: readonly { readonly startOffset: number; readonly count: number }[];
};
type V8Report = {
  readonly result: readonly { readonly url: string; readonly functions: readonly V8Function[] }[];
};

export type DirCoverage = {
  readonly dir: string;
  readonly files: number;
  /** The files that some process has loaded. */
  readonly loaded: number;
  /** The functions of those files, and how many of them were called. */
  readonly functions: number;
  readonly called: number;
};

/** Adds up the reports in a directory for the sources of a checkout, their tests left out. */
export function readCoverage(reports: string, root: string): DirCoverage[] {
  const called = calledFunctions(reports, pathToFileURL(join(root, "src/")).href);
  const dirs = new Map<string, { -readonly [Key in keyof DirCoverage]: DirCoverage[Key] }>();
  const sources = globSync("src/**/*.ts", { cwd: root }).filter(
    (file) => !file.endsWith(".test.ts") && !file.startsWith(join("src", "testing")),
  );
  for (const file of sources) {
    const dir = dirname(file);
    const sum = dirs.get(dir) ?? { dir, files: 0, loaded: 0, functions: 0, called: 0 };
    dirs.set(dir, sum);
    const functions = called.get(pathToFileURL(join(root, file)).href);
    sum.files += 1;
    if (functions === undefined) continue;
    sum.loaded += 1;
    sum.functions += functions.size;
    sum.called += [...functions.values()].filter(Boolean).length;
  }
  return [...dirs.values()].toSorted((one, other) => (one.dir < other.dir ? -1 : 1));
}

/**
 * By source and by place: whether a function was called in any process. The first of each source is the module itself.
 */
function calledFunctions(reports: string, sources: string): Map<string, Map<string, boolean>> {
  const all = new Map<string, Map<string, boolean>>();
  for (const name of globSync("*.json", { cwd: reports })) {
    const { result } = JSON.parse(readFileSync(join(reports, name), "utf8")) as V8Report;
    for (const { url, functions } of result) {
      if (!url.startsWith(sources)) continue;
      const known = all.get(url) ?? new Map<string, boolean>();
      all.set(url, known);
      for (const { functionName, ranges } of functions) {
        const [whole] = ranges;
        if (whole === undefined || (functionName === "" && whole.startOffset === 0)) continue;
        const place = `${functionName}@${whole.startOffset}`;
        known.set(place, known.get(place) === true || whole.count > 0);
      }
    }
  }
  return all;
}

/** The table that `coverage` prints. */
export function formatCoverage(dirs: readonly DirCoverage[]): string {
  const percent = (part: number, whole: number): string =>
    whole === 0 ? "-" : `${Math.floor((100 * part) / whole)} %`;
  const row = (name: string, loaded: string, functions: string, part: string): string =>
    `${name.padEnd(28)} ${loaded.padStart(12)} ${functions.padStart(14)} ${part.padStart(6)}`;
  return [
    row("dir", "files loaded", "functions", "called"),
    ...dirs.map(({ dir, files, loaded, functions, called }) =>
      row(relative(".", dir), `${loaded}/${files}`, `${called}/${functions}`, percent(called, functions)),
    ),
  ].join("\n");
}
