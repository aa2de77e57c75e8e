import assert from "node:assert/strict";
import { appendFileSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { followLog } from "#base/follow-log.ts";

const TIMEOUT = { timeout: 20_000 };

/** A log, and a reader that follows it. */
function setUp(t: TestContext, text: string, lines?: number) {
  const dir = mkdtempSync(join(tmpdir(), "log-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const path = join(dir, "log");
  if (text !== "") writeFileSync(path, text);
  const abort = new AbortController();
  let isOver = false;
  const chunks = followLog(path, { lines, follow: true, isOver: () => isOver, signal: abort.signal });
  let read = "";
  const until = async (wanted: string): Promise<void> => {
    while (!read.includes(wanted)) {
      const next = await chunks.next();
      if (next.done === true) throw new Error(`It ended with ${read}`);
      read += Buffer.from(next.value).toString();
    }
  };
  const rotate = (): void => renameSync(path, `${path}.1`);
  const end = (): void => void (isOver = true);
  return { path, chunks, until, rotate, abort, end, read: () => read };
}

test("a line written just before a rotation is read by a waiting follower", TIMEOUT, async (t) => {
  const { path, chunks, until, rotate, read } = setUp(t, "one\n");
  await until("one\n");
  const next = chunks.next();
  while (!process.getActiveResourcesInfo().includes("FSEventWrap")) await turn();
  for (let turns = 0; turns < 100; turns++) await turn(); // It has nothing to read, and waits.
  appendFileSync(path, "two\n");
  rotate();
  writeFileSync(path, "three\n");
  assert.equal(Buffer.from((await next).value ?? "").toString(), "two\n");
  await until("three\n");
  assert.equal(read(), "one\nthree\n");
});

test("lines before and after a rotation are read once and in order", TIMEOUT, async (t) => {
  const { path, until, rotate, read } = setUp(t, "one\n");
  await until("one\n");
  appendFileSync(path, "two\n");
  rotate();
  writeFileSync(path, "three\n");
  await until("three\n");
  appendFileSync(path, "four\n");
  await until("four\n");
  assert.equal(read(), "one\ntwo\nthree\nfour\n");
});

test("during a rotation there is no file, and the reader waits for the next", TIMEOUT, async (t) => {
  const { path, until, rotate, read } = setUp(t, "one\n");
  await until("one\n");
  appendFileSync(path, "two\n");
  rotate();
  await until("two\n");
  writeFileSync(path, "three\n");
  await until("three\n");
  assert.equal(read(), "one\ntwo\nthree\n");
});

test("the last lines come first, and a truncated log is read from its start", TIMEOUT, async (t) => {
  const { path, until, read } = setUp(t, "one\ntwo\nthree\n", 1);
  await until("three\n");
  writeFileSync(path, "four\n");
  await until("four\n");
  assert.equal(read(), "three\nfour\n");
});

test("following ends after the owner's last line, or with the reason of its signal", TIMEOUT, async (t) => {
  const one = setUp(t, "one\n");
  await one.until("one\n");
  one.end();
  appendFileSync(one.path, "last\n");
  await one.until("last\n");
  assert.equal((await one.chunks.next()).done, true);
  const other = setUp(t, "one\n");
  await other.until("one\n");
  other.abort.abort(new Error("Somebody left."));
  await assert.rejects(other.chunks.next(), /Somebody left/);
});
