import assert from "node:assert/strict";
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { OpenFiles } from "#testing/open-files.ts";

test("a file that is open for writing is seen as such, and one that is open for reading is not", (t) => {
  const dir = mkdtempSync(join(tmpdir(), "open-files-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const path = join(dir, "file");
  writeFileSync(path, "content");
  const here = new OpenFiles(process.pid);
  assert.equal(here.uses(path), false);
  const reading = openSync(path, "r");
  assert.equal(here.uses(path), true);
  assert.deepEqual(here.writersOf(path), []);
  for (const flags of ["r+", "a"]) {
    const writing = openSync(path, flags);
    assert.match(here.writersOf(path).join(), new RegExp(`^descriptor ${writing} `));
    closeSync(writing);
  }
  closeSync(reading);
  assert.deepEqual(here.writablePlaces(path), [path]);
});
