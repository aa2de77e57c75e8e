import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { DetachKeys, parseDetachKeys } from "#cli/detach-keys.ts";
import { TerminalModes } from "#cli/terminal-modes.ts";

const PQ = "\u0010\u0011";

test("keys are parsed in the form that Docker uses", () => {
  assert.deepEqual([...parseDetachKeys()], [0x10, 0x11]);
  assert.deepEqual([...parseDetachKeys("ctrl-\\,q")], [0x1c, 0x71]);
  assert.deepEqual([...parseDetachKeys("ctrl-@,ctrl-[,~,.")], [0, 0x1b, 0x7e, 0x2e]);
  assert.deepEqual([...parseDetachKeys("none")], []);
  for (const text of [
    "",
    "ctrl-",
    "ctrl-P",
    "ctrl-1",
    "ab",
    "a,,b",
    "é",
    Array.from({ length: 17 }, () => "a").join(),
  ])
    assert.throws(() => parseDetachKeys(text), { code: "input.invalid", hint: /ctrl-p,ctrl-q/ }, text);
});

/** Passes input through DetachKeys. Returns what it passes on, and whether it ends the attach. */
async function typed(keys: string, ...chunks: string[]): Promise<[passed: string, isLeft: boolean]> {
  const stream = new DetachKeys(parseDetachKeys(keys));
  let isLeft = false;
  void stream.detached.then(() => (isLeft = true));
  let passed = "";
  stream.on("data", (chunk: Buffer) => (passed += chunk.toString()));
  for (const chunk of chunks) stream.write(chunk);
  stream.end();
  await once(stream, "end");
  return [passed, isLeft];
}

test("input passes unchanged, except for the sequence, however it is cut into chunks", async () => {
  assert.deepEqual(await typed("ctrl-p,ctrl-q", "ab", "\u0010c\u0010\u0010", "d\u0011"), [
    "ab\u0010c\u0010\u0010d\u0011",
    false,
  ]);
  assert.deepEqual(await typed("ctrl-p,ctrl-q", `ab${PQ}rest`), ["ab", true]);
  assert.deepEqual(await typed("ctrl-p,ctrl-q", "a\u0010", "\u0010", "\u0011", "rest"), ["a\u0010", true]);
  assert.deepEqual(await typed("a,a,b", "xaaab"), ["xa", true], "a sequence that begins in itself");
  assert.deepEqual(
    await typed("ctrl-p,ctrl-q", "a\u0010"),
    ["a\u0010", false],
    "what is held comes with the end",
  );
  assert.deepEqual(await typed("none", PQ), [PQ, false]);
});

test("modes that a program set are reset, and only those", () => {
  const reset = (...chunks: string[]): string => {
    const modes = new TerminalModes();
    for (const chunk of chunks) modes.see(Buffer.from(chunk));
    return modes.reset();
  };
  assert.equal(reset("plain \u001b[31mred\u001b[0m"), "");
  assert.equal(reset("\u001b[?1049h\u001b[?25l"), "\u001b[?1049l\u001b[?25h\u001b[0m");
  assert.equal(
    reset("x\u001b[?10", "49h", "y".repeat(200)),
    "\u001b[?1049l\u001b[0m",
    "cut by a chunk's end",
  );
  assert.equal(reset("\u001b[?1049;2004h", "\u001b[?1049l\u001b[?9999h"), "\u001b[?2004l\u001b[0m");
  assert.equal(reset("\u001b[?1049h", "\u001b[?1049l\u001b[?25l\u001b[?25h"), "");
});
