import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { Worker } from "node:worker_threads";
import { tryFileLock, waitFileLock } from "#host/file-lock.ts";
import { LOCK_RACE_WORDS, LOCK_RACER } from "#testing/lock-racer.ts";
import { startLockHolder } from "#testing/lock-holder.ts";

function lockPath(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), "hearth-lock-"));
  t.after(() => rmSync(dir, { recursive: true }));
  return join(dir, "a.lock");
}

test("one owner at a time has the lock, also within a process", (t) => {
  const path = lockPath(t);
  const first = tryFileLock(path);
  assert.ok(first);
  assert.equal(tryFileLock(path), undefined);
  first[Symbol.dispose]();
  const second = tryFileLock(path);
  assert.ok(second);
  second[Symbol.dispose]();
});

test("an owner in another process keeps the lock until it dies, even by SIGKILL", async (t) => {
  const path = lockPath(t);
  const holder = await startLockHolder(path, t.signal);
  assert.equal(tryFileLock(path), undefined);
  const waiting = Promise.withResolvers<void>();
  const lock = waitFileLock(path, waiting.resolve, t.signal);
  await waiting.promise;
  await holder.kill();
  (await lock)[Symbol.dispose]();
});

test("of two processes that try at the same moment, one gets the lock, in each of 100 rounds", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "hearth-lock-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const rounds = 100;
  const shared = new SharedArrayBuffer(rounds * LOCK_RACE_WORDS * 4);
  const racers = [0, 1].map(() => new Worker(LOCK_RACER, { workerData: { shared, dir, rounds } }));
  await Promise.all(racers.map((racer) => once(racer, "exit")));
  const words = new Int32Array(shared);
  const holders = Array.from({ length: rounds }, (_, round) => words[round * LOCK_RACE_WORDS]);
  assert.deepEqual(
    holders.filter((count) => count !== 1),
    [],
  );
});

test("waiting ends when it is aborted, with the reason", async (t) => {
  const path = lockPath(t);
  using held = new DisposableStack();
  held.use(tryFileLock(path));
  const abort = new AbortController();
  const lock = waitFileLock(path, () => abort.abort(new Error("not any more")), abort.signal);
  await assert.rejects(lock, (error: Error) => /not any more/.test(String(error.cause ?? error)));
});

test("a missing directory is an error, not a lock of another owner", () => {
  assert.throws(() => tryFileLock("/proc/hearth/none.lock"), { code: "host.read_only" });
});
