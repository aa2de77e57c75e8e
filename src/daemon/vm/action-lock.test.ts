import assert from "node:assert/strict";
import { test } from "node:test";
import { ActionLock } from "#daemon/vm/action-lock.ts";

const never = new AbortController().signal;

/** An action that lasts until its signal aborts or `end` is called. */
function lasting(lock: ActionLock, action: string, order: string[] = []) {
  const gate = Promise.withResolvers<void>();
  const done = lock.run(action, "web", "refuse", never, async (signal) => {
    signal.addEventListener("abort", () => gate.reject(signal.reason));
    await gate.promise.finally(() => order.push(`${action} has ended`));
  });
  return { done, end: () => gate.resolve() };
}

test("a second action is refused, and says what is under way", async () => {
  const lock = new ActionLock();
  const first = lasting(lock, "stop");
  const second = (): Promise<void> => lock.run("pause", "web", "refuse", never, async () => {});
  await assert.rejects(second(), { code: "vm.busy", message: "web is busy: stop is in progress." });
  first.end();
  await first.done;
  await second();
});

test("actions that wait run one after the other, each alone", async () => {
  const lock = new ActionLock();
  const order: string[] = [];
  const first = lasting(lock, "snapshot", order);
  const waiting = [1, 2, 3].map((number) =>
    lock.run("stop", "web", "wait", never, async () => {
      order.push(`${number} begins`);
      await Promise.resolve();
      order.push(`${number} ends`);
    }),
  );
  first.end();
  await Promise.all([first.done, ...waiting]);
  assert.deepEqual(order, [
    "snapshot has ended",
    ...[1, 2, 3].flatMap((number) => [`${number} begins`, `${number} ends`]),
  ]);
});

test("a wait ends with its caller's signal, and the action under way continues", async () => {
  const lock = new ActionLock();
  const first = lasting(lock, "snapshot");
  for (const admission of ["wait", { takeOver: "It was killed." }] as const) {
    const gone = new AbortController();
    const stubborn = admission === "wait" ? undefined : new ActionLock();
    const busy = stubborn?.run("start", "web", "refuse", never, () => new Promise(() => {}));
    const second = (stubborn ?? lock).run("stop", "web", admission, gone.signal, async () => {});
    gone.abort(new Error("Ctrl-C"));
    await assert.rejects(second, /Ctrl-C/);
    void busy;
  }
  first.end();
  await first.done;
});

test("an action that takes over aborts the one under way and waits until that has cleaned up", async () => {
  const lock = new ActionLock();
  const order: string[] = [];
  const first = lasting(lock, "start", order);
  const seen = assert.rejects(first.done, { code: "operation.taken_over", message: "It was killed." });
  const meanwhile = async (): Promise<void> => void order.push("the VMM is ended");
  await lock.run("kill", "web", { takeOver: "It was killed.", meanwhile }, never, async () => {
    order.push("kill begins");
  });
  await seen;
  assert.deepEqual(order.toSorted(), ["kill begins", "start has ended", "the VMM is ended"]);
  assert.equal(order.at(-1), "kill begins");
});

test("a kill or a removal that is under way is waited for, not aborted", async () => {
  for (const final of ["kill", "remove"]) {
    const lock = new ActionLock();
    const first = lasting(lock, final);
    const second = lock.run("kill", "web", { takeOver: "It was killed." }, never, async () => "killed");
    first.end();
    await first.done;
    assert.equal(await second, "killed");
  }
});

test("an action that waited for a VM that was removed fails with vm.not_found", async () => {
  const lock = new ActionLock();
  const first = lasting(lock, "remove");
  const second = lock.run("stop", "web", "wait", never, async () => {});
  lock.close();
  first.end();
  await assert.rejects(second, { code: "vm.not_found" });
});
