import assert from "node:assert/strict";
import {
  chownSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { MIB } from "#base/sizes.ts";
import { NO_ISOLATION } from "#drivers/boot-isolation.ts";
import { MemoryCopy } from "#drivers/qemu/memory-copy.ts";

const never = new AbortController().signal;
const isRoot = process.geteuid?.() === 0;
const UID = 1_999_000_000;

/**
 * Makes a sealed guest memory file of 64 MiB with 1 MiB in it, and the directory of a VM that is to be restored from
 * it.
 */
function place(t: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), "memory-copy-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const memory = join(dir, "memory");
  writeFileSync(memory, Buffer.alloc(MIB, "guest"));
  truncateSync(memory, 64 * MIB);
  const copy = join(dir, "memory.own");
  const giveMemoryCopy = async (): Promise<void> => {
    if (isRoot) chownSync(copy, UID, UID);
  };
  return { memory, plan: { stateDir: dir, isolation: { ...NO_ISOLATION, giveMemoryCopy } }, copy };
}

test("a copy is equal, private to the VM and sparse, and stays usable when its name is removed", async (t) => {
  const { memory, plan, copy } = place(t);
  {
    await using made = await MemoryCopy.make(plan, memory, never);
    assert.equal(made.path, copy);
    const { mode, uid, blocks, ino } = statSync(copy);
    assert.equal(mode & 0o777, 0o600);
    if (isRoot) assert.equal(uid, UID);
    assert.notEqual(ino, statSync(memory).ino);
    assert.ok(blocks * 512 < 4 * MIB, `${blocks} blocks`);
    assert.deepEqual(readFileSync(copy), readFileSync(memory));
  }
  assert.equal(existsSync(copy), false);
});

test("the copy of a hearthd that was killed is replaced", async (t) => {
  const { memory, plan, copy } = place(t);
  writeFileSync(copy, "left over");
  await using made = await MemoryCopy.make(plan, memory, never);
  assert.equal(statSync(made.path).size, 64 * MIB);
});

test("a copy that fails leaves nothing, and its error has the reason", async (t) => {
  const { memory, plan, copy } = place(t);
  rmSync(memory);
  await assert.rejects(MemoryCopy.make(plan, memory, never), { code: "snapshot.failed" });
  assert.equal(existsSync(copy), false);
});

test("a cancelled copy leaves nothing", async (t) => {
  const { memory, plan, copy } = place(t);
  await assert.rejects(
    MemoryCopy.make(plan, memory, AbortSignal.abort(new Error("not wanted"))),
    /not wanted/,
  );
  assert.equal(existsSync(copy), false);
});
