import assert from "node:assert/strict";
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { GENERATED_DIRS, generateProto } from "./generate-proto.ts";

const HINT = "Run `node tools/generate-proto.ts` and commit what it writes.";

test("the checked-in code is what proto/ generates", async (t) => {
  const scratch = await mkdtemp(join(tmpdir(), "hearth-proto-"));
  t.after(() => rm(scratch, { recursive: true, force: true }));
  await generateProto({ go: join(scratch, "go"), ts: join(scratch, "ts") }, t.signal);
  for (const language of ["go", "ts"] as const) {
    const kept = await readTree(join(import.meta.dirname, "..", GENERATED_DIRS[language]));
    const fresh = await readTree(join(scratch, language));
    assert.deepEqual([...kept.keys()], [...fresh.keys()], HINT);
    for (const [path, text] of fresh) assert.ok(kept.get(path) === text, `${path} is stale. ${HINT}`);
  }
});

async function readTree(root: string): Promise<Map<string, string>> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const texts = await Promise.all(paths.toSorted().map((path) => readFile(path, "utf8")));
  return new Map(paths.toSorted().map((path, at) => [path.slice(root.length + 1), texts[at] ?? ""]));
}
