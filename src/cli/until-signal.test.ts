import assert from "node:assert/strict";
import { test } from "node:test";
import { untilSignal } from "#cli/until-signal.ts";
import { testIo } from "#testing/cli-run.ts";

test("a signal makes the work undo its steps, and the exit code is the signal's", async () => {
  const { io, signal } = testIo([], {});
  let isUndone = false;
  const code = untilSignal(io, async (asked) => {
    await new Promise((resolve) => asked.addEventListener("abort", resolve));
    isUndone = true;
    asked.throwIfAborted();
  });
  signal("SIGTERM");
  assert.equal(await code, 143);
  assert.ok(isUndone);
});

test("the third signal ends the wait for work that does not end", async () => {
  const { io, signal } = testIo([], {});
  const code = untilSignal(io, () => new Promise<never>(() => undefined));
  for (const name of ["SIGINT", "SIGTERM", "SIGINT"]) signal(name);
  assert.equal(await code, 130);
});

test("an error of the work without a signal stays an error", async () => {
  const { io } = testIo([], {});
  await assert.rejects(
    untilSignal(io, () => Promise.reject(new Error("broken"))),
    /broken/,
  );
});
