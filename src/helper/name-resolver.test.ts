import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { NameResolver } from "#helper/name-resolver.ts";

/** Returns the resolver at the other end of a socket, on which `answer` serves each connection. */
async function resolverThat(t: TestContext, answer: (socket: Socket) => void): Promise<NameResolver> {
  const dir = mkdtempSync(join(tmpdir(), "hearth-resolver-"));
  const path = join(dir, "control");
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => socket.destroy()); // Its client may have left.
    socket.once("data", () => answer(socket));
  });
  server.listen(path);
  await once(server, "listening");
  t.after(() => {
    server.close();
    rmSync(dir, { recursive: true });
  });
  const place = { namespace: "/nonexistent", networks: "/nonexistent", link: "hvmaaaaaaaaaaaa" };
  return new NameResolver("/nonexistent", place, path);
}

test("what a resolver has learned is read", async (t) => {
  const learned = [
    { domain: "*.example", address: "198.51.100.7", seconds: 60 },
    { domain: "*.example", address: "2001:db8::7", seconds: 60 },
  ];
  const resolver = await resolverThat(t, (socket) => socket.end(`${JSON.stringify({ learned })}\n`));
  assert.deepEqual(await resolver.learned(t.signal), learned);
  assert.equal(await resolver.runs(t.signal), true);
});

const LIES: Readonly<Record<string, (socket: Socket) => void>> = {
  nothing: (socket) => socket.end(),
  "what is not JSON": (socket) => socket.end("} drop table\n"),
  "what is not text": (socket) => socket.end(Buffer.from([0xff, 0xfe, 0x0a])),
  "another document": (socket) =>
    socket.end('{"learned":[{"domain":"a","address":"1.2.3.4; flush","seconds":1}]}\n'),
  "an IPv6 address with more behind it": (socket) =>
    socket.end('{"learned":[{"domain":"a","address":"2001:db8::1%; flush","seconds":1}]}\n'),
  "an error without an end": (socket) => socket.end(`{"error":"${"x".repeat(1_000_000)}"}\n`),
  "a line without an end": (socket) => {
    const more = (): boolean => socket.write("x".repeat(1 << 20));
    socket.on("drain", more);
    more();
  },
};
for (const [lie, answer] of Object.entries(LIES))
  test(`a resolver that answers with ${lie} fails, and can be ended`, async (t) => {
    const resolver = await resolverThat(t, answer);
    await assert.rejects(resolver.learned(t.signal), (error: Error & { code?: string }) => {
      assert.equal(error.code, "host.tool_failed");
      assert.ok(error.message.length < 1_000, "the message is short");
      return true;
    });
    await resolver.end(t.signal);
  });

test("a resolver that says nothing can be ended, and a cancelled end is cancelled", async (t) => {
  const resolver = await resolverThat(t, () => {});
  await assert.rejects(resolver.end(AbortSignal.abort(new Error("cancelled"))), /cancelled/);
  await resolver.end(t.signal);
  assert.equal(await resolver.runs(t.signal), false);
});
