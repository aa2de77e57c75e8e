/** ARCHITECTURE.md walks through a start, file by file: few files, and every function is where the walk says. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

const ROOT = join(import.meta.dirname, "..");
const FILES_MAX = 6;

/** Reads the items of the walk: a file, and the functions and constants that are named with it. */
function readWalk(): { path: string; names: string[] }[] {
  const text = readFileSync(join(ROOT, "ARCHITECTURE.md"), "utf8");
  const [, section = ""] = /\n## A start, file by file\n(.*?)\n## /s.exec(text) ?? [];
  return [...section.matchAll(/^\d\. `([^`]+)`(.*)$/gm)].map(([, path = "", rest = ""]) => ({
    path,
    names: [...rest.matchAll(/`(\w+)\(\)`|`([A-Z_]+)`/g)].map(
      ([, called, constant]) => called ?? constant ?? "",
    ),
  }));
}

test("a start reads in at most six files, and each has what the walk through it names", () => {
  const walk = readWalk();
  assert.ok(walk.length > 0 && walk.length <= FILES_MAX, `${walk.length} files`);
  for (const { path, names } of walk) {
    const source = readFileSync(join(ROOT, path), "utf8");
    assert.notEqual(names.length, 0, path);
    for (const name of names) {
      const declared = new RegExp(`^(export |  )?(async )?(function |const )?${name}[<(:]`, "m");
      assert.ok(declared.test(source), `${name} is in ${path}`);
    }
  }
});
