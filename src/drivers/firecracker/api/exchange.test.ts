import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { HearthError } from "#base/error.ts";
import { apiRequest } from "#drivers/firecracker/api/api-request.ts";
import { exchange, refusal } from "#drivers/firecracker/api/exchange.ts";
import { answerJson, type FakeAnswer, FakeFirecracker } from "#testing/fake-firecracker.ts";

const DEADLINE_MS = 60_000;
const SHORT_MS = 20;
const never = new AbortController().signal;
const ASK = apiRequest("GET", "/version");
const PUT = apiRequest("PUT", "/vsock", { guest_cid: 3, uds_path: "größer" });

async function answerTo(answer: FakeAnswer, request = ASK) {
  await using fake = await FakeFirecracker.start(answer);
  return await exchange(fake, request, DEADLINE_MS, never);
}

async function failureOf(answer: FakeAnswer, request = ASK, deadlineMs = DEADLINE_MS): Promise<HearthError> {
  await using fake = await FakeFirecracker.start(answer);
  try {
    await exchange(fake, request, deadlineMs, never);
  } catch (error) {
    assert.ok(error instanceof HearthError, String(error));
    return error;
  }
  return assert.fail("there was an answer");
}

describe("a request", () => {
  for (const request of [PUT, { ...PUT, method: "PATCH" as const }]) {
    test(`${request.method} has the length of its body in bytes, and no chunks`, async () => {
      await using fake = await FakeFirecracker.start();
      await exchange(fake, request, DEADLINE_MS, never);
      const [asked] = fake.asked;
      assert.equal(asked?.headers["content-length"], String(Buffer.byteLength(asked?.text ?? "")));
      assert.equal(asked?.headers["transfer-encoding"], undefined);
      assert.equal(asked?.headers["content-type"], "application/json");
      assert.deepEqual(JSON.parse(asked?.text ?? ""), PUT.body);
    });
  }

  test("PATCH without a body has the length 0", async () => {
    await using fake = await FakeFirecracker.start();
    await exchange(fake, apiRequest("PATCH", "/balloon/hinting/stop"), DEADLINE_MS, never);
    assert.equal(fake.asked[0]?.headers["content-length"], "0");
    assert.equal(fake.asked[0]?.headers["transfer-encoding"], undefined);
  });

  test("GET has no body and no length", async () => {
    await using fake = await FakeFirecracker.start();
    await exchange(fake, ASK, DEADLINE_MS, never);
    assert.equal(fake.asked[0]?.headers["content-length"], undefined);
    assert.equal(fake.asked[0]?.text, "");
  });
});

describe("an answer", () => {
  test("of JSON is parsed", async () => {
    const answer = await answerTo((_, response) => answerJson(response, 200, { a: [1] }));
    assert.deepEqual(answer, { status: 200, ok: true, body: { a: [1] } });
  });

  test("without a body has none", async () => {
    const answer = await answerTo((_, response) => void response.writeHead(204).end(), PUT);
    assert.deepEqual(answer, { status: 204, ok: true, body: undefined });
  });

  test("of plain text is that text", async () => {
    const answer = await answerTo((_, response) => void response.writeHead(500).end("out of order"));
    assert.deepEqual(answer, { status: 500, ok: false, body: "out of order" });
  });

  test("of broken JSON is that text", async () => {
    const answer = await answerTo((_, response) => void response.writeHead(200).end('{"a": '));
    assert.equal(answer.body, '{"a": ');
  });

  test("with an error status is an answer too", async () => {
    const fault = { fault_message: "Invalid request." };
    const answer = await answerTo((_, response) => answerJson(response, 400, fault));
    assert.deepEqual(answer, { status: 400, ok: false, body: fault });
  });

  test("in pieces is put together", async () => {
    const answer = await answerTo((_, response) => {
      response.writeHead(200, { "content-length": 7 });
      response.write('{"a"');
      setImmediate(() => response.end(":1}"));
    });
    assert.deepEqual(answer.body, { a: 1 });
  });
});

describe("a refusal", () => {
  const sentence = (body: unknown): string => refusal(PUT, { status: 400, ok: false, body }).message;

  test("has Firecracker's reason, as text in one line", () => {
    assert.equal(
      sentence({ fault_message: "No such\n device" }),
      "Firecracker refused PUT /vsock with status 400: No such device.",
    );
    assert.equal(sentence("plain"), "Firecracker refused PUT /vsock with status 400: plain.");
    assert.equal(sentence(undefined), "Firecracker refused PUT /vsock with status 400.");
    assert.equal(sentence({ other: 1 }), 'Firecracker refused PUT /vsock with status 400: {"other":1}.');
    assert.equal(sentence(null), "Firecracker refused PUT /vsock with status 400: null.");
  });

  test("is short, however long the reason is", () => {
    assert.ok(sentence("x".repeat(100_000)).length < 1_100);
  });
});

describe("a connection that fails is an error with a code", () => {
  test("where there is no socket", async () => {
    const asking = exchange({ socketPath: "/nowhere/api.sock" }, ASK, DEADLINE_MS, never);
    await assert.rejects(asking, { code: "vmm.failed", message: /does not listen at \/nowhere\/api\.sock/ });
  });

  test("where the program behind the socket has ended", async () => {
    const fake = await FakeFirecracker.start();
    const { socketPath } = fake;
    await exchange({ socketPath }, ASK, DEADLINE_MS, never);
    await fake[Symbol.asyncDispose]();
    await assert.rejects(exchange({ socketPath }, ASK, DEADLINE_MS, never), { code: "vmm.failed" });
  });

  test("when it ends before the answer", async () => {
    const error = await failureOf((_, response) => response.socket?.destroy());
    assert.equal(error.code, "vmm.failed");
    assert.match(error.message, /did not answer GET \/version/);
  });

  test("when it ends in the middle of the answer", async () => {
    const error = await failureOf((_, response) => {
      response.writeHead(200, { "content-length": 100 });
      response.write('{"half', () => response.socket?.destroy());
    });
    assert.equal(error.code, "vmm.failed");
    assert.match(error.message, /did not answer GET \/version/);
  });

  test("when the answer is not HTTP", async () => {
    const error = await failureOf((_, response) => response.socket?.end("SSH-2.0-OpenSSH_9.2\r\n"));
    assert.equal(error.code, "vmm.failed");
    assert.match(error.message, /not HTTP/);
  });

  test("when the answer does not end", async () => {
    const error = await failureOf((_, response) => {
      response.writeHead(200);
      const block = Buffer.alloc(1024 * 1024);
      const more = (): void => void (response.destroyed || response.write(block, () => setImmediate(more)));
      more();
    });
    assert.equal(error.code, "vmm.failed");
  });

  test("when nothing comes until the deadline", async () => {
    const error = await failureOf(() => {}, PUT, SHORT_MS);
    assert.equal(error.code, "vmm.unresponsive");
    assert.equal(error.message, `Firecracker did not answer PUT /vsock within ${SHORT_MS} ms.`);
  });

  test("when the answer stops until the deadline", async () => {
    const error = await failureOf((_, response) => void response.writeHead(200).write("{"), ASK, SHORT_MS);
    assert.equal(error.code, "vmm.unresponsive");
  });

  test("when its path is too long for a socket", async () => {
    const asking = exchange({ socketPath: "/".padEnd(200, "a") }, ASK, DEADLINE_MS, never);
    await assert.rejects(asking, { code: "host.path_too_long" });
  });
});

describe("a caller that cancels", () => {
  test("gets its own reason, at once", async () => {
    const cancel = new AbortController();
    const reason = new Error("not wanted");
    await using fake = await FakeFirecracker.start(() => cancel.abort(reason));
    await assert.rejects(exchange(fake, ASK, DEADLINE_MS, cancel.signal), reason);
  });

  test("before the request sends nothing", async () => {
    await using fake = await FakeFirecracker.start();
    const reason = new Error("not wanted");
    await assert.rejects(exchange(fake, ASK, DEADLINE_MS, AbortSignal.abort(reason)), reason);
    assert.equal(fake.asked.length, 0);
  });
});
