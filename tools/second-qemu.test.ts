import assert from "node:assert/strict";
import { test } from "node:test";
import { secondBuild } from "./second-qemu.ts";

test("an old QEMU is tested together with a new one, and a new one with an old one", () => {
  for (const [first, second] of [
    ["7.2.22", "bookworm-backports"],
    ["8.1.5", "bookworm-backports"],
    ["8.2.0", "bookworm"],
    ["10.0.13", "bookworm"],
  ] as const)
    assert.equal(secondBuild(first).name, second, first);
});
