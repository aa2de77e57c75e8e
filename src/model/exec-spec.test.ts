import assert from "node:assert/strict";
import { test } from "node:test";
import { checkExec } from "#model/exec-spec.ts";
test("variables take 1 MiB in all, and the error names the variables", () => {
  const env = (count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, index) => [`V${index}`, "x".repeat(100_000)]));
  checkExec({ argv: ["true"], env: env(10) });
  assert.throws(() => checkExec({ argv: ["true"], env: env(11) }), {
    code: "input.invalid",
    message: /^env: the variables have 11000\d\d bytes; the limit is 1048576/,
  });
});
