import assert from "node:assert/strict";
import { test } from "node:test";
import { allEnded } from "#base/all-ended.ts";

test("all values come in their order", async () => {
  assert.deepEqual(await allEnded([Promise.resolve(1), "two", undefined]), [1, "two", undefined]);
});

test("an error comes when all others have ended, and not before", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  let isOver = false;
  const ended = allEnded([Promise.reject(new Error("one")), promise]).finally(() => (isOver = true));
  await new Promise((done) => setImmediate(done));
  assert.equal(isOver, false);
  resolve();
  await assert.rejects(ended, /one/);
});
