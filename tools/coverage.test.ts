import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { runOrThrow } from "#host/run.ts";
import { formatCoverage, readCoverage } from "./coverage.ts";

test("what several processes have called adds up, by directory, and files that are never loaded are counted", async (t) => {
  const root = mkdtempSync(join(tmpdir(), "hearth-coverage-"));
  t.after(() => rmSync(root, { recursive: true }));
  for (const dir of ["src/one", "src/two"]) mkdirSync(join(root, dir), { recursive: true });
  const source = "export function a() {}\nexport function b() {}\nexport function never() {}\n";
  writeFileSync(join(root, "src/one/calls.ts"), source);
  writeFileSync(join(root, "src/one/calls.test.ts"), "");
  writeFileSync(join(root, "src/two/unused.ts"), source);
  const reports = join(root, "reports");
  for (const name of ["a", "b"]) {
    const program = join(root, `${name}.mjs`);
    writeFileSync(program, `import { ${name} } from "./src/one/calls.ts"; ${name}();`);
    const env = { ...process.env, NODE_V8_COVERAGE: reports };
    await runOrThrow(process.execPath, [program], { env, timeoutMs: 60_000, signal: t.signal });
  }
  const found = readCoverage(reports, root);
  assert.deepEqual(found, [
    { dir: "src/one", files: 1, loaded: 1, functions: 3, called: 2 },
    { dir: "src/two", files: 1, loaded: 0, functions: 0, called: 0 },
  ]);
  assert.match(formatCoverage(found), /^src\/one +1\/1 +2\/3 +66 %\nsrc\/two +0\/1 +0\/0 +-$/m);
});
