import assert from "node:assert/strict";
import { test } from "node:test";
import { runOrThrow } from "#host/run.ts";
import { formatCpio } from "#images/cpio.ts";
import type { CpioEntry } from "#images/cpio.ts";

const ENTRIES: readonly CpioEntry[] = [
  { kind: "dir", path: "dev", mode: 0o755 },
  { kind: "device", path: "dev/console", mode: 0o600, major: 5, minor: 1 },
  { kind: "file", path: "init", mode: 0o755, content: Buffer.from("hello") },
  { kind: "file", path: "empty", mode: 0o644, content: new Uint8Array() },
];

test("cpio reads back what was written, with devices, made without root", async (t) => {
  const archive = Buffer.concat(formatCpio(ENTRIES));
  const options = { timeoutMs: 10_000, signal: t.signal, input: archive };
  const list = (await runOrThrow("cpio", ["-itv", "--quiet", "--numeric-uid-gid"], options))
    .trim()
    .split("\n");
  assert.equal(list.length, ENTRIES.length);
  assert.match(list[0] ?? "", /^drwxr-xr-x +2 +0 +0 .* dev$/);
  assert.match(list[1] ?? "", /^crw------- +1 +0 +0 +5, +1 .* dev\/console$/);
  assert.match(list[2] ?? "", /^-rwxr-xr-x +1 +0 +0 +5 .* init$/);
  assert.equal(await runOrThrow("cpio", ["-i", "--quiet", "--to-stdout", "init"], options), "hello");
});

test("equal content gives equal bytes", () => {
  assert.deepEqual(formatCpio(ENTRIES), formatCpio(ENTRIES));
});
