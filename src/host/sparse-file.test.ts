import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { MIB } from "#base/sizes.ts";
import { findExtents } from "#host/file-extents.ts";
import type { MapFile } from "#host/file-extents.ts";
import { hashFile } from "#host/hash-file.ts";
import { scanFile, SparseWriter } from "#host/sparse-file.ts";
import { QEMU_IMG } from "#testing/tools.ts";

const map: MapFile = (file, signal) => QEMU_IMG.mapRaw(file, signal);
const SIZE_BYTES = 20 * MIB + 3;

/** Large enough for a search for holes, and no multiple of a block. */
async function makeFile(t: TestContext): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), "hearth-sparse-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const path = join(dir, "file");
  await using file = await open(path, "wx");
  await file.truncate(SIZE_BYTES);
  await file.write("middle", 7 * MIB - 3);
  await file.write("end", SIZE_BYTES - 3);
  await file.chmod(0o444);
  return path;
}

test("a file is hashed as a reader sees it, and its extents are the parts that are not zeros", async (t) => {
  const path = await makeFile(t);
  const { extents, ...hash } = await scanFile(path, map, t.signal);
  assert.deepEqual(hash, await hashFile(path, t.signal));
  const content = readFileSync(path);
  const rebuilt = Buffer.alloc(SIZE_BYTES);
  for (const { offset, sizeBytes } of extents) content.copy(rebuilt, offset, offset, offset + sizeBytes);
  assert.ok(rebuilt.equals(content));
  assert.ok(extents.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) <= 3 * 64 * 1024);
});

test("holes are found in order, and never reach beyond the file", async (t) => {
  const path = await makeFile(t);
  let end = 0;
  for (const { offset, sizeBytes } of await findExtents(path, SIZE_BYTES, map, t.signal)) {
    assert.ok(offset >= end && sizeBytes > 0);
    end = offset + sizeBytes;
  }
  assert.equal(end, SIZE_BYTES);
});

test("a file is the same in whatever pieces it is written, with holes for its zeros", async (t) => {
  const path = await makeFile(t);
  const content = readFileSync(path);
  const copy = `${path}.copy`;
  {
    await using writer = await SparseWriter.create(copy, t.signal);
    await writer.skipTo(4097);
    for (let at = 4097; at < SIZE_BYTES; at += 1_500_001)
      await writer.write(content.subarray(at, at + 1_500_001));
    assert.deepEqual(await writer.finish(), await hashFile(path, t.signal));
  }
  assert.ok(readFileSync(copy).equals(content));
  assert.ok(statSync(copy).blocks * 512 <= 16 * 1024);
  assert.equal(statSync(copy).mode & 0o777, 0o600);
});

test("an existing file is never written to", async (t) => {
  await assert.rejects(SparseWriter.create(await makeFile(t), t.signal), { code: "EEXIST" });
});

test("hashing ends when it is aborted", async (t) => {
  const cancel = AbortSignal.abort(new Error("enough"));
  await assert.rejects(scanFile(await makeFile(t), map, cancel), /enough/);
});
