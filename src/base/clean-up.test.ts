import assert from "node:assert/strict";
import { test } from "node:test";
import { failAfter, withCleanUp } from "#base/clean-up.ts";
import { errorBody, errorChain, HearthError, toHearthError } from "#base/error.ts";

const fails = (message: string) => async (): Promise<never> => {
  throw new Error(message);
};

test("a clean-up runs after work that succeeds, and its failure is the error then", async () => {
  assert.equal(
    await withCleanUp(
      async () => 7,
      () => {},
    ),
    7,
  );
  await assert.rejects(
    withCleanUp(async () => 7, fails("the clean-up")),
    /^Error: the clean-up$/,
  );
});

test("the error of failed work keeps its code and hint, and contains the error of each clean-up", async () => {
  const first = new HearthError("snapshot.failed", "Cannot save web.", {
    hint: "Free some space.",
    cause: new Error("ENOSPC"),
  });
  const done: string[] = [];
  const clean = failAfter(first, fails("no answer"), () => done.push("second"), fails("EBUSY"));
  const error = toHearthError(await clean.catch((thrown: unknown) => thrown));
  assert.deepEqual([error.code, error.hint], ["snapshot.failed", "Free some space."]);
  assert.match(errorBody(error).message, /^Cannot save web: ENOSPC After that: .*no answer.*EBUSY/);
  assert.deepEqual(done, ["second"], "each clean-up runs");
});

test("an error that `using` has wrapped around another one hides neither", () => {
  const thrown = new SuppressedError(
    new Error("EIO"),
    new HearthError("host.disk_full", "The disk is full."),
  );
  assert.equal(toHearthError(thrown).code, "host.disk_full");
  assert.equal(errorChain(thrown), "The disk is full. After that: EIO");
  assert.equal(errorBody(thrown).message, "The disk is full. After that: EIO");
});

test("an error of several errors names them all", () => {
  const all = new AggregateError([new Error("one"), new Error("two", { cause: "three" })], "Both failed.");
  assert.equal(errorChain(all), "Both failed: one; two: three");
  assert.equal(errorChain(new AggregateError([new Error("one")])), "one");
});

test("an error that is its own cause is printed once", () => {
  const error = new Error("round");
  error.cause = new Error("and round", { cause: error });
  assert.equal(errorChain(error), "round: and round: (as above)");
});
