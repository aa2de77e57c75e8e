import assert from "node:assert/strict";
import { test } from "node:test";
import { errorBody, errorChain, HearthError, toError, toHearthError } from "#base/error.ts";

const cyclic: Record<string, unknown> = {};
cyclic["self"] = cyclic;

for (const [title, thrown, message] of [
  ["a string", "boom", /^boom$/],
  ["a number", 7, /was thrown: 7/],
  ["null", null, /was thrown: null/],
  ["undefined", undefined, /was thrown: undefined/],
  ["an object", { a: 1 }, /was thrown: \{"a":1\}/],
  ["a cycle", cyclic, /was thrown: \[object Object\]/],
  ["a BigInt", 1n, /was thrown: 1/],
] as const) {
  test(`${title} that is thrown becomes an error`, () => assert.match(toError(thrown).message, message));
}

test("a chain is printed once, from the outside in", () => {
  const error = new HearthError("vm.boot_failed", "web did not boot.", {
    cause: new Error("no kernel", { cause: new Error("ENOENT") }),
  });
  assert.equal(errorChain(error), "web did not boot: no kernel: ENOENT");
});

for (const [errno, code] of [
  ["ENOSPC", "host.disk_full"],
  ["EDQUOT", "host.disk_full"],
  ["EROFS", "host.read_only"],
] as const) {
  test(`${errno} anywhere is ${code}, with the path and a fix`, () => {
    const error = toHearthError(Object.assign(new Error(errno), { code: errno, path: "/x" }));
    assert.equal(error.code, code);
    assert.match(error.message, /\/x/);
    assert.ok(error.hint);
  });
}

test("an unforeseen error is reported as a bug, and keeps its cause", () => {
  const body = errorBody(new TypeError("x is not a function"), "op-000000000000");
  assert.equal(body.code, "internal.bug");
  assert.match(body.message, /x is not a function/);
  assert.equal(body.operation, "op-000000000000");
});
