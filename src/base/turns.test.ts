import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { Turns } from "#base/turns.ts";

test("turns at a time are limited, and waiting callers get theirs in the order of their calls", async (t) => {
  const turns = new Turns(2);
  const began: number[] = [];
  const waits: number[] = [];
  const work = Array.from({ length: 5 }, (_, number) => {
    const end = Promise.withResolvers<void>();
    const done = (async () => {
      using _turn = await turns.take(t.signal, (before) => waits.push(before));
      began.push(number);
      await end.promise;
    })();
    return { end: end.resolve, done };
  });
  await nextTurn();
  assert.deepEqual(began, [0, 1]);
  assert.deepEqual(waits, [0, 1, 2]);
  work[1]?.end();
  await nextTurn();
  assert.deepEqual(began, [0, 1, 2]);
  for (const { end } of work) end();
  await Promise.all(work.map(({ done }) => done));
  assert.deepEqual(began, [0, 1, 2, 3, 4]);
});

test("a caller that is cancelled while it waits uses up no turn, and a turn ends only once", async (t) => {
  const turns = new Turns(1);
  const first = await turns.take(t.signal);
  const cancel = new AbortController();
  const second = assert.rejects(turns.take(cancel.signal), /enough/);
  const third = turns.take(t.signal);
  cancel.abort(new Error("enough"));
  await second;
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  const turn = await third;
  let late = false;
  const fourth = turns.take(t.signal).then((taken) => {
    late = true;
    return taken;
  });
  await nextTurn();
  assert.ok(!late, "there is one turn, and not two");
  turn[Symbol.dispose]();
  (await fourth)[Symbol.dispose]();
  await assert.rejects(turns.take(AbortSignal.abort(new Error("gone"))), /gone/);
  (await turns.take(t.signal))[Symbol.dispose]();
});
