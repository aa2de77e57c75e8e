import assert from "node:assert/strict";
import { once } from "node:events";
import { closeSync, mkdtempSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { makeFifos, openFifoForProgram, readFifo } from "#host/fifo.ts";

async function fifo(t: TestContext): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), "hearth-fifo-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const path = join(dir, "a b");
  await makeFifos([path], t.signal);
  return path;
}

test("output without a reader is kept for the next reader, up to the pipe's size", async (t) => {
  const path = await fifo(t);
  const program = openFifoForProgram(path);
  writeSync(program, "early ");
  const reader = readFifo(path);
  const [early] = (await once(reader, "data")) as [Buffer];
  reader.destroy();
  writeSync(program, "later");
  const next = readFifo(path);
  const [later] = (await once(next, "data")) as [Buffer];
  assert.equal(`${early}${later}`, "early later");
  closeSync(program);
  next.destroy();
});

test("a program never waits for a reader, and gets no error without one", async (t) => {
  const program = openFifoForProgram(await fifo(t));
  const chunk = Buffer.alloc(4096);
  assert.throws(
    () => {
      for (let n = 0; n < 1000; n += 1) writeSync(program, chunk);
    },
    { code: "EAGAIN" },
  );
  closeSync(program);
});

test("the reader gets the end when the program has ended", async (t) => {
  const path = await fifo(t);
  const program = openFifoForProgram(path);
  const reader = readFifo(path).resume();
  const ended = once(reader, "end");
  closeSync(program);
  await ended;
});
