import assert from "node:assert/strict";
import { test } from "node:test";
import { Undo } from "#base/undo.ts";

async function work(order: string[], fail: boolean, failures: string[]): Promise<void> {
  await using undo = new Undo((what) => failures.push(what));
  undo.add("first", () => order.push("first"));
  undo.add("second", () => {
    throw new Error("undo broke");
  });
  undo.add("third", async () => order.push("third"));
  if (fail) throw new Error("the work failed");
  undo.keep();
}

test("steps are undone in reverse order, and the first error is thrown", async () => {
  const order: string[] = [];
  const failures: string[] = [];
  await assert.rejects(work(order, true, failures), /^Error: the work failed$/);
  assert.deepEqual(order, ["third", "first"], "a failing undo does not keep the others from running");
  assert.deepEqual(failures, ["second"], "and is reported");
});

test("kept work is not undone", async () => {
  const order: string[] = [];
  await work(order, false, []);
  assert.deepEqual(order, []);
});
