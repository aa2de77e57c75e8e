import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { errorChain, HearthError } from "#base/error.ts";
import { waitUntilReady } from "#drivers/firecracker/api/wait-until-ready.ts";
import { accept, answerJson, FakeFirecracker } from "#testing/fake-firecracker.ts";

const DEADLINE_MS = 60_000;
const never = new AbortController().signal;
const runs = new Promise<Error>(() => {});

describe("waiting for Firecracker's API", () => {
  test("asks for the version until the answer is good; a 400 is not", async () => {
    await using fake = await FakeFirecracker.start((request, response) => {
      if (fake.asked.length < 3) return answerJson(response, 400, { fault_message: "Not yet." });
      accept(request, response);
    });
    const ready = { socketPath: fake.socketPath, deadlineMs: DEADLINE_MS, hasEnded: runs };
    assert.equal((await waitUntilReady(ready, never)).text, "1.17.0");
    assert.deepEqual(
      fake.asked.map(({ method, path }) => `${method} ${path}`),
      ["GET /version", "GET /version", "GET /version"],
    );
  });

  test("waits for a socket that does not exist yet", async () => {
    await using fake = new FakeFirecracker();
    const ready = { socketPath: fake.socketPath, deadlineMs: DEADLINE_MS, hasEnded: runs };
    const waiting = waitUntilReady(ready, never);
    setImmediate(() => void fake.listen());
    assert.equal((await waiting).minor, 17);
  });

  test("ends with the reason when the process has ended meanwhile", async () => {
    const hasEnded = Promise.withResolvers<Error>();
    const died = new HearthError("vmm.failed", "Firecracker ended with exit code 1.");
    await using fake = await FakeFirecracker.start((_, response) => {
      answerJson(response, 400, {});
      hasEnded.resolve(died);
    });
    const { socketPath } = fake;
    const ready = { socketPath, deadlineMs: DEADLINE_MS, hasEnded: hasEnded.promise };
    await assert.rejects(waitUntilReady(ready, never), died);
  });

  test("ends at once when the process ends while an answer is awaited", async () => {
    const hasEnded = Promise.withResolvers<Error>();
    const died = new Error("exit code 1");
    await using fake = await FakeFirecracker.start(() => hasEnded.resolve(died));
    const { socketPath } = fake;
    const ready = { socketPath, deadlineMs: DEADLINE_MS, hasEnded: hasEnded.promise };
    await assert.rejects(waitUntilReady(ready, never), died);
  });

  test("asks nothing when the process had ended before", async () => {
    await using fake = await FakeFirecracker.start();
    const died = new Error("exit code 1");
    const { socketPath } = fake;
    const ready = { socketPath, deadlineMs: DEADLINE_MS, hasEnded: Promise.resolve(died) };
    await assert.rejects(waitUntilReady(ready, never), died);
    assert.equal(fake.asked.length, 0);
  });

  test("takes a rejection as the reason as well", async () => {
    const died = new Error("exit code 1");
    const ready = { socketPath: "/nowhere/s", deadlineMs: DEADLINE_MS, hasEnded: Promise.reject(died) };
    await assert.rejects(waitUntilReady(ready, never), died);
  });

  test("throws the last failure at the deadline", async () => {
    await using fake = await FakeFirecracker.start((_, response) =>
      answerJson(response, 400, { fault_message: "Not yet." }),
    );
    const ready = { socketPath: fake.socketPath, deadlineMs: 500, hasEnded: runs };
    await assert.rejects(waitUntilReady(ready, never), (error) => {
      assert.ok(error instanceof HearthError && error.code === "vmm.unresponsive");
      assert.match(errorChain(error), /not ready within 500 ms: .*GET \/version with status 400: Not yet\./);
      return true;
    });
  });

  test("throws the caller's own reason", async () => {
    const cancel = new AbortController();
    const reason = new Error("not wanted");
    await using fake = await FakeFirecracker.start((_, response) => {
      answerJson(response, 400, {});
      cancel.abort(reason);
    });
    const ready = { socketPath: fake.socketPath, deadlineMs: DEADLINE_MS, hasEnded: runs };
    await assert.rejects(waitUntilReady(ready, cancel.signal), reason);
  });

  test("refuses another program that answers", async () => {
    await using fake = await FakeFirecracker.start(
      (_, response) => void response.writeHead(200).end("hello"),
    );
    const ready = { socketPath: fake.socketPath, deadlineMs: DEADLINE_MS, hasEnded: runs };
    await assert.rejects(waitUntilReady(ready, never), {
      code: "vmm.failed",
      message: 'Firecracker answered GET /version with "hello", not with an object.',
    });
  });
});
