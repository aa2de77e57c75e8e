import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { ClientMessage } from "#api/exec-stream.ts";
import { ExecControls } from "#daemon/http/exec-controls.ts";

const size = (cols: number): ClientMessage => ({ type: "resize", cols, rows: 24 });
const signal = (name: string): ClientMessage => ({ type: "signal", signal: name }) as ClientMessage;

/** A guest that takes one message whenever `take` is called. */
function slowGuest() {
  const taken: ClientMessage[] = [];
  let dropped = 0;
  let next = Promise.withResolvers<void>();
  const controls = new ExecControls(
    async (message) => {
      taken.push(message);
      await next.promise;
    },
    () => (dropped += 1),
  );
  const take = async (): Promise<void> => {
    next.resolve();
    next = Promise.withResolvers<void>();
    await nextTurn();
  };
  return { controls, taken, take, dropped: () => dropped };
}

test("signals and sizes come one after the other, in their order, and of sizes that wait the newest", async () => {
  const { controls, taken, take, dropped } = slowGuest();
  controls.add(size(80));
  for (let cols = 81; cols < 5_000; cols++) controls.add(size(cols));
  controls.add(signal("SIGINT"));
  controls.add(size(100));
  controls.add(size(101));
  assert.deepEqual(taken, [size(80)]);
  for (let turn = 0; turn < 5; turn++) await take();
  assert.deepEqual(taken, [size(80), size(4_999), signal("SIGINT"), size(101)]);
  assert.equal(dropped(), 0);
});

test("messages beyond the queue's limit are dropped, and reported", async () => {
  const { controls, taken, take, dropped } = slowGuest();
  for (let sent = 0; sent < 1_000; sent++) controls.add(signal("SIGUSR1"));
  assert.equal(dropped(), 1_000 - 101, "one is on its way, and a hundred wait");
  for (let turn = 0; turn < 101; turn++) await take();
  assert.equal(taken.length, 101);
  controls.add(signal("SIGTERM"));
  assert.deepEqual(taken.at(-1), signal("SIGTERM"));
});
