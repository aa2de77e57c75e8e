import assert from "node:assert/strict";
import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { BoundedFile, readTail, removeBoundedFile, sizeOf, truncateWhenOver } from "#host/bounded-file.ts";

class Dir implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), "bounded-"));
  readonly log = join(this.path, "log");
  text(name = "log"): string {
    return readFileSync(join(this.path, name), "utf8");
  }
  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true });
  }
}

describe("a bounded file", () => {
  test("keeps the newest bytes, and one rotated file", () => {
    using dir = new Dir();
    using file = new BoundedFile(dir.log, 4);
    for (const part of ["abc", "def", "ghi"]) file.append(Buffer.from(part));
    assert.equal(dir.text("log.1"), "efgh");
    assert.equal(dir.text(), "i");
    assert.equal(file.droppedBytes, 4);
  });

  test("accepts a chunk that is larger than its limit", () => {
    using dir = new Dir();
    using file = new BoundedFile(dir.log, 4);
    file.append(Buffer.from("0123456789"));
    assert.equal(dir.text("log.1") + dir.text(), "456789");
    assert.equal(file.droppedBytes, 4);
  });

  test("continues at the end of an existing file, and counts its bytes", () => {
    using dir = new Dir();
    new BoundedFile(dir.log, 4).append(Buffer.from("abc"));
    using file = new BoundedFile(dir.log, 4);
    file.append(Buffer.from("de"));
    assert.deepEqual([dir.text("log.1"), dir.text()], ["abcd", "e"]);
  });

  test("is never over its limit, not even by one byte", () => {
    using dir = new Dir();
    using file = new BoundedFile(dir.log, 4);
    file.append(Buffer.from("abcd"));
    assert.equal(statSync(dir.log).size, 4);
    assert.equal(sizeOf(`${dir.log}.1`), 0);
  });

  test("is removed with its rotated part, also twice", () => {
    using dir = new Dir();
    using file = new BoundedFile(dir.log, 4);
    file.append(Buffer.from("abcdefgh"));
    removeBoundedFile(dir.log);
    removeBoundedFile(dir.log);
    assert.equal(sizeOf(dir.log) + sizeOf(`${dir.log}.1`), 0);
  });
});

test("a file that another program fills is emptied only when it is over the limit", () => {
  using dir = new Dir();
  appendFileSync(dir.log, "abcd");
  assert.equal(truncateWhenOver(dir.log, 4), false);
  appendFileSync(dir.log, "e");
  assert.equal(truncateWhenOver(dir.log, 4), true);
  assert.equal(dir.text(), "");
  assert.equal(truncateWhenOver(join(dir.path, "none"), 4), false);
});

test("the tail of a file is its last bytes, and nothing from before a given place", () => {
  using dir = new Dir();
  appendFileSync(dir.log, "0123456789");
  assert.equal(readTail(dir.log, 3), "789");
  assert.equal(readTail(dir.log, 100, 8), "89");
  assert.equal(readTail(dir.log, 100, 100), "");
  assert.equal(readTail(join(dir.path, "none"), 3), "");
});
