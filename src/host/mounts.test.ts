import assert from "node:assert/strict";
import { test } from "node:test";
import { mountOf, readMounts } from "#host/mounts.ts";

test("a path lies on the mount that is nearest above it", () => {
  assert.equal(mountOf("/proc/self/status")?.point, "/proc");
  assert.equal(mountOf("/")?.point, "/");
  assert.ok(readMounts().length > 1);
});

test("the restrictions of a mount are among its options", () => {
  assert.ok(mountOf("/proc")?.options.some((option) => option === "rw" || option === "ro"));
});
