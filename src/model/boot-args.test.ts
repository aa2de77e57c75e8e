import assert from "node:assert/strict";
import { test } from "node:test";
import { checkBootArgs } from "#model/boot-args.ts";
import { LIMITS } from "#model/limits.ts";

test("arguments that Hearth does not set itself are taken, up to the limit", () => {
  checkBootArgs([]);
  checkBootArgs(["quiet", "mitigations=off", "initcall_debug", "x.init=1"]);
  checkBootArgs(["x".repeat(LIMITS.bootArgsMaxBytes)]);
});

test("arguments that Hearth sets itself are refused by name, also behind a quote", () => {
  for (const arg of [
    "init=/bin/sh",
    "rdinit=/x",
    "root=/dev/vdb",
    "panic=0",
    "reboot=h",
    "hearth.init=agent",
  ])
    for (const written of [arg, `"${arg}"`])
      assert.throws(() => checkBootArgs(["quiet", written]), {
        code: "input.invalid",
        message: `boot-args: ${JSON.stringify(written)} is set by Hearth itself.`,
      });
});

test("too many bytes, a space, a control character or an empty argument is refused", () => {
  for (const args of [["x".repeat(LIMITS.bootArgsMaxBytes), "y"], ["a b"], ["a\nb"], ["é"], [""]])
    assert.throws(() => checkBootArgs(args), { code: "input.invalid" });
});
