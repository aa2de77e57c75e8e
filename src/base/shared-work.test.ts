import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { SharedWork } from "#base/shared-work.ts";
import type { Work } from "#base/shared-work.ts";

const quiet = (): void => {};
const fail: Work<string> = () => Promise.reject(new Error("no mirror"));

test("eight concurrent callers share one run, its result and its progress", async (t) => {
  const shared = new SharedWork<number>();
  const gate = Promise.withResolvers<void>();
  let runs = 0;
  const work: Work<number> = async (onProgress) => {
    onProgress({ stage: "disk", text: "half" });
    await gate.promise;
    return ++runs;
  };
  const seen: string[] = [];
  const all = Array.from({ length: 8 }, () =>
    shared.join("debian", work, (progress) => seen.push(progress.text), t.signal),
  );
  gate.resolve();
  assert.deepEqual(
    await Promise.all(all),
    Array.from({ length: 8 }, () => 1),
  );
  assert.equal(seen.length, 8);
  assert.equal(await shared.join("debian", work, quiet, t.signal), 2, "later work is new work");
});

test("a caller that aborts only leaves; the work is aborted when the last caller has left", async () => {
  const shared = new SharedWork<void>();
  const [first, last] = [new AbortController(), new AbortController()];
  const started = Promise.withResolvers<AbortSignal>();
  const work: Work<void> = async (_, signal) => {
    started.resolve(signal);
    await once(signal, "abort");
    signal.throwIfAborted();
  };
  const one = shared.join("debian", work, quiet, first.signal);
  const other = shared.join("debian", work, quiet, last.signal);
  const signal = await started.promise;
  first.abort(new Error("the first left"));
  await assert.rejects(one, /the first left/);
  assert.equal(signal.aborted, false);
  last.abort(new Error("the last left"));
  await assert.rejects(other, /the last left/);
  assert.equal(signal.aborted, true);
});

test("a failure reaches all waiting callers, and the next call starts again", async (t) => {
  const shared = new SharedWork<string>();
  const all = [shared.join("a", fail, quiet, t.signal), shared.join("a", fail, quiet, t.signal)];
  for (const one of all) await assert.rejects(one, /no mirror/);
  assert.equal(await shared.join("a", async () => "built", quiet, t.signal), "built");
});
