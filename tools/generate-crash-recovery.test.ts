import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { CHAPTERS, CRASH_RECOVERY_DOC, crashRecoveryPage } from "./generate-crash-recovery.ts";

const FLOWS_DIR = join(import.meta.dirname, "../src/daemon/flows");

test("docs/crash-recovery.md says what the flows are; `node tools/generate-crash-recovery.ts` writes it", () => {
  assert.equal(readFileSync(CRASH_RECOVERY_DOC, "utf8"), crashRecoveryPage());
});

test("every flow has a chapter", () => {
  const declared = globSync("*.ts", { cwd: FLOWS_DIR, exclude: ["*.test.ts"] }).flatMap((file) =>
    [...readFileSync(join(FLOWS_DIR, file), "utf8").matchAll(/: Flow<[^>]*> = \{\n {2}kind: "(\w+)"/g)].map(
      ([, kind]) => kind,
    ),
  );
  assert.ok(declared.length >= 6, `${declared.length} flows were found`);
  assert.deepEqual(declared.toSorted(), CHAPTERS.map(({ flow }) => flow.kind).toSorted());
});
