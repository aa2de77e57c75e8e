import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { HearthError } from "#base/error.ts";
import { explainEnd } from "#daemon/vm/explain-end.ts";
import type { ExitReason } from "#model/vm-handle.ts";

const LOST = new HearthError("agent.unreachable", "The guest agent cannot be reached.");
const NO_LOG = "/nowhere/console.log";

function ended(reason: ExitReason, more: { autoRemove?: boolean; console?: string } = {}) {
  const { autoRemove = false, console = NO_LOG } = more;
  return { name: "web", autoRemove, console, ended: Promise.resolve({ reason, atMs: 1 }) };
}

async function explained(...of: Parameters<typeof explainEnd>): Promise<HearthError> {
  const error = await explainEnd(...of);
  assert.ok(error instanceof HearthError);
  return error;
}

test("a command's client is told how the VM ended, in place of a broken connection", async () => {
  const told = async (reason: ExitReason): Promise<string> => {
    const { code, message } = await explained(LOST, ended(reason));
    return `${code}: ${message}`;
  };
  assert.equal(await told("panicked"), "vm.panicked: The guest kernel panicked.");
  assert.equal(await told("rebooted"), "vm.gone: web was rebooted by its guest.");
  assert.equal(await told("guest"), "vm.gone: web was powered off by its guest.");
  assert.equal(await told("died"), "vm.gone: The VMM of web ended unexpectedly.");
  for (const reason of ["asked", "unseen"] as const)
    assert.equal(await explainEnd(LOST, ended(reason)), LOST, "somebody knows why");
});

test("the kernel's panic message is in the error, made safe to print, and the logs in the hint", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "hearth-test-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const console = join(dir, "console.log");
  const words = `[ 2.0] Kernel panic - not syncing: \u001b[2J${"x".repeat(5_000)}`;
  writeFileSync(console, `before\r\n${words}\r\nCPU: 0\r\n`);
  const { message, hint } = await explained(LOST, ended("panicked", { console }));
  assert.match(message, /^The guest kernel panicked: Kernel panic - not syncing: [^\u001b]*x+$/);
  assert.ok(message.length < 300);
  assert.equal(hint, "See `hearth logs web`.");
  const removed = await explained(LOST, ended("panicked", { console, autoRemove: true }));
  assert.match(removed.hint ?? "", /without --rm/);
});

test("an error of another kind is told as it is, and so is a connection that broke in a VM that runs on", async () => {
  const other = new HearthError("exec.not_found", "no such program");
  const never = { name: "web", autoRemove: false, console: NO_LOG, ended: new Promise<never>(() => {}) };
  assert.equal(await explainEnd(other, never), other);
  assert.equal(await explainEnd(LOST, never, 1), LOST);
});
