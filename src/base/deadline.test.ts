import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { inTime, unlessAborted, within } from "#base/deadline.ts";

const NEVER = new Promise<never>(() => {});
const LONG_MS = 60_000;
const late = (): Error => new Error("too late");

test("a deadline resolves with a value that comes in time, and rejects with its own error otherwise", async () => {
  assert.equal(await inTime(Promise.resolve(7), LONG_MS, late), 7);
  await assert.rejects(inTime(Promise.reject(new Error("its own")), LONG_MS, late), /its own/);
  await assert.rejects(inTime(NEVER, 1, late), /too late/);
  assert.equal(await within(NEVER, 1), undefined);
});

test("the signal that aborts first ends the wait with its reason", async () => {
  const [one, other] = [new AbortController(), new AbortController()];
  const waiting = inTime(NEVER, LONG_MS, late, one.signal, other.signal);
  other.abort(new Error("the other"));
  await assert.rejects(waiting, /the other/);
  const aborted = unlessAborted(Promise.reject(new Error("its own")), other.signal);
  await assert.rejects(aborted, /the other/, "an abort that was before comes before");
});

test("a wait leaves no listener on signals that live longer, however it ends", async () => {
  const { signal } = new AbortController();
  const waits = [inTime(Promise.resolve(), LONG_MS, late, signal), inTime(NEVER, 1, late, signal)];
  assert.equal(getEventListeners(signal, "abort").length, 2);
  await Promise.allSettled(waits);
  assert.equal(getEventListeners(signal, "abort").length, 0);
});

test("a promise that rejects after the wait has ended does not end the process", async () => {
  const work = Promise.withResolvers<never>();
  await assert.rejects(inTime(work.promise, 1, late), /too late/);
  work.reject(new Error("nobody waits for this"));
  await new Promise((resolve) => setImmediate(resolve));
});
