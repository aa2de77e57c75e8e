import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { test } from "node:test";
import { readLines } from "#helper/message-lines.ts";
import { Fuzz } from "#testing/fuzz.ts";

async function lines(chunks: readonly Buffer[], maxBytes = 100): Promise<string[]> {
  return Array.fromAsync(readLines(Readable.from(chunks), maxBytes));
}

test("lines come whole, however the stream is cut", async (t) => {
  const fuzz = new Fuzz(t);
  const text = ["", "one", "zwei é €", "x".repeat(100), "last"];
  const bytes = Buffer.from(`${text.join("\n")}\ncut off`);
  for (let round = 0; round < 50; round++) {
    const chunks: Buffer[] = [];
    for (let at = 0; at < bytes.length;) {
      const end = at + 1 + fuzz.int(fuzz.pick([1, 7, 60]));
      chunks.push(bytes.subarray(at, end));
      at = end;
    }
    assert.deepEqual(await lines(chunks), text);
  }
});

test("a line may have as many bytes as its limit and no more, with its newline or without", async () => {
  assert.deepEqual(await lines([Buffer.from(`${"x".repeat(100)}\n`)]), ["x".repeat(100)]);
  for (const end of ["\n", ""])
    await assert.rejects(lines([Buffer.from(`ok\n${"x".repeat(101)}${end}`)]), { code: "input.too_large" });
  await assert.rejects(lines([Buffer.from([0xff, 0x0a])]), { code: "input.invalid" });
});
