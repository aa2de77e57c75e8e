import assert from "node:assert/strict";
import { test } from "node:test";
import { AnswerScanner, answerLine } from "#guest/answer-scanner.ts";

const NONCE = "0123456789abcdef0123456789abcdef";

test("the answer is found wherever the chunks are cut, and the bytes after it are kept", () => {
  const whole = Buffer.from(`stale HEARTH-OK/1 ffff\n${answerLine(NONCE)}after`);
  for (let cut = 1; cut < whole.length; cut += 1) {
    const scanner = new AnswerScanner(NONCE);
    const first = scanner.push(whole.subarray(0, cut));
    const rest = first ?? scanner.push(whole.subarray(cut));
    const expected = first === undefined ? "after" : "after".slice(0, 5 - (whole.length - cut));
    assert.equal(rest?.toString(), expected, `cut at ${cut}`);
  }
});

test("the answer is found when every byte comes alone", () => {
  const scanner = new AnswerScanner(NONCE);
  const line = Buffer.from(`HEARTH-OK/1 HEARTH-OK/1 ${NONCE}${answerLine(NONCE)}`);
  for (const [at, byte] of line.entries()) {
    const rest = scanner.push(Uint8Array.of(byte));
    assert.equal(rest !== undefined, at === line.length - 1, `byte ${at}`);
  }
});

test("an answer to another connection's hello is ignored", () => {
  const scanner = new AnswerScanner(NONCE);
  assert.equal(scanner.push(Buffer.from(answerLine("f".repeat(32)))), undefined);
});
