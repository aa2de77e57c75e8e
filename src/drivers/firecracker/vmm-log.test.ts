import assert from "node:assert/strict";
import fs from "node:fs";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { VmmLog } from "#drivers/firecracker/vmm-log.ts";

/** A pipe full of lines, such as those that a guest with broken descriptors causes. */
const LINES = Array.from({ length: 819 }, (_, index) => `[id:fc_vcpu 0:WARN] Failed to parse ${index}`);
const CHUNK = Buffer.from(`${LINES.join("\n")}\n`);

function makeLog(t: TestContext, maxBytes = 2 ** 30) {
  const dir = mkdtempSync(join(tmpdir(), "hearth-vmm-log-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const path = join(dir, "vmm.log");
  const troubles: unknown[] = [];
  const log = new VmmLog(path, { maxBytes, onTrouble: (_, error) => troubles.push(error) });
  return { dir, path, log, troubles, text: () => readFileSync(path, "utf8") };
}

test("a chunk of many lines is one write, and a line that is split in two chunks is one line", (t) => {
  const { log, text } = makeLog(t);
  const append = t.mock.method(fs, "appendFileSync");
  syncBuiltinESMExports();
  t.after(() => {
    t.mock.reset();
    syncBuiltinESMExports();
  });
  log.append(CHUNK);
  assert.equal(append.mock.callCount(), 1);
  assert.equal(text(), CHUNK.toString());
  log.append(Buffer.from("one "));
  log.append(Buffer.from("line\nhalf"));
  assert.equal(text(), `${CHUNK.toString()}one line\n`);
});

test("an endless log keeps some lines, counts the rest, and keeps the last line", (t) => {
  const { log, text } = makeLog(t);
  const chunks = 400;
  for (let chunk = 0; chunk < chunks; chunk++) log.append(CHUNK);
  assert.ok(text().split("\n").length < 1_200, "a burst is kept");
  log.append(Buffer.from("[id:main:INFO] Firecracker exiting successfully. exit_code=0\n"));
  log.end();
  log.end();
  const lines = text().trimEnd().split("\n");
  assert.match(lines.at(-1) ?? "", /exit_code=0$/);
  const summaries = lines.flatMap(
    (line) => /about (\d+) lines of the VMM log were left out/.exec(line)?.[1] ?? [],
  );
  assert.equal(summaries.length, 1);
  const left = Number(summaries[0]);
  const all = LINES.length * chunks + 1;
  assert.ok(Math.abs(left + lines.length - 1 - all) < 5, `${left} and ${lines.length} of ${all}`);
});

test("a second later the number of omitted lines is written, and lines are kept again", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { log, text } = makeLog(t);
  log.append(CHUNK);
  log.append(CHUNK);
  assert.doesNotMatch(text(), /left out/);
  t.mock.timers.tick(1_000);
  assert.match(text(), /left out here\]\n/);
});

test("a file that cannot be written is reported once, and again after a success", (t) => {
  const { dir, path, log, troubles, text } = makeLog(t);
  rmSync(dir, { recursive: true });
  for (let time = 0; time < 3; time++) log.append(Buffer.from("lost\n"));
  assert.equal(troubles.length, 1);
  fs.mkdirSync(dir);
  log.append(Buffer.from("kept\n"));
  assert.equal(text(), "kept\n");
  rmSync(path);
  fs.mkdirSync(path);
  log.append(Buffer.from("lost\n"));
  assert.equal(troubles.length, 2);
});

test("the file exceeds its limit by at most a chunk", (t) => {
  const { log, path } = makeLog(t, 10_000);
  for (let chunk = 0; chunk < 10; chunk++) {
    log.append(Buffer.from(`${"x".repeat(999)}\n`.repeat(8)));
    assert.ok(fs.statSync(path).size <= 18_000);
  }
});
