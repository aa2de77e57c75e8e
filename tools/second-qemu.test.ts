import assert from "node:assert/strict";
import { test } from "node:test";
import { isSuite, secondBuild } from "./second-qemu.ts";

test("an old QEMU is tested together with a new one, and a new one with an old one", () => {
  for (const [first, second] of [
    ["7.2.22", "bookworm-backports"],
    ["8.1.5", "bookworm-backports"],
    ["8.2.0", "bookworm"],
    ["10.0.13", "bookworm"],
  ] as const)
    assert.equal(secondBuild(first).name, second, first);
});

test("the release that the second QEMU was built for is known by its name", () => {
  assert.equal(isSuite("ID=debian\nVERSION_CODENAME=bookworm\n"), true);
  assert.equal(isSuite("ID=debian\nVERSION_CODENAME=trixie\n"), false);
});
