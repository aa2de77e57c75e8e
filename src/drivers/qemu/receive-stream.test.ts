import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { HearthError } from "#base/error.ts";
import { MIB } from "#base/sizes.ts";
import { StreamReceiver } from "#drivers/qemu/receive-stream.ts";
import type { StreamTarget } from "#drivers/qemu/receive-stream.ts";
import { checkRoom } from "#drivers/save-bounds.ts";

async function listen(t: TestContext, more: Partial<StreamTarget> = {}) {
  const dir = mkdtempSync(join(tmpdir(), "hearth-receive-"));
  const socket = join(dir, "out.sock");
  const to = { path: join(dir, "file"), durable: false, maxBytes: MIB, checkRoom: async () => {}, ...more };
  const receiver = await StreamReceiver.listen(socket, to);
  t.after(() => {
    receiver.close(new Error("the test is over"));
    rmSync(dir, { recursive: true });
  });
  return { dir, socket, path: to.path, receiver };
}

test("what arrives is in the file, and the first connection removes the socket", async (t) => {
  const { dir, socket, path, receiver } = await listen(t);
  const sender = connect(socket);
  sender.end("all of it");
  await receiver.written;
  assert.equal(readFileSync(path, "utf8"), "all of it");
  assert.deepEqual(readdirSync(dir), ["file"]);
});

test("a save that is cancelled while its sender connects fails, and does not end hearthd", async (t) => {
  for (let time = 0; time < 20; time++) {
    const { socket, receiver } = await listen(t);
    const sender = connect(socket).on("error", () => {});
    const closed = new Promise((resolve) => sender.resume().once("close", resolve));
    while (existsSync(socket)) await new Promise(setImmediate); // The first connection removes it.
    receiver.close(new Error("hearthd ends"));
    await assert.rejects(receiver.written, /hearthd ends/);
    await closed;
  }
});

test("the first connection is served, and all others are closed", async (t) => {
  const { socket, path, receiver } = await listen(t);
  const senders = Array.from({ length: 20 }, () => connect(socket));
  // A refused connection has an error, a closed one has none.
  const closed = senders.slice(1).map((sender) => {
    sender.on("error", () => {});
    return new Promise((resolve) => sender.resume().once("close", resolve));
  });
  await Promise.all(closed);
  senders[0]?.end("of the first");
  await receiver.written;
  assert.equal(readFileSync(path, "utf8"), "of the first");
});

test("the connection of a sender of too many bytes is closed", async (t) => {
  const { socket, path, receiver } = await listen(t);
  const sender = connect(socket);
  sender.on("error", () => {});
  const cut = new Promise((resolve) => sender.once("close", resolve));
  sender.write(Buffer.alloc(4 * MIB));
  await assert.rejects(receiver.written, { code: "snapshot.failed" });
  await cut;
  assert.ok(readFileSync(path).length <= MIB);
});

test("the connection of a sender is closed when the host has no more room", async (t) => {
  const full = new HearthError("host.disk_full", "no room");
  let asked = 0;
  const noRoom = async (): Promise<void> => {
    asked += 1;
    if (asked > 1) throw full;
  };
  const { socket, path, receiver } = await listen(t, { maxBytes: 1024 * MIB, checkRoom: noRoom });
  const sender = connect(socket);
  sender.on("error", () => {});
  sender.write(Buffer.alloc(256 * MIB));
  await assert.rejects(receiver.written, full);
  assert.ok(readFileSync(path).length <= 64 * MIB);
});

test("a sender that never connects is waited for until the caller's deadline", async (t) => {
  const { receiver } = await listen(t);
  await assert.rejects(receiver.end(20), { code: "vmm.unresponsive" });
});

test("a lack of room is refused with the free bytes and the bytes that the save takes", async () => {
  const path = join(tmpdir(), "file");
  await checkRoom(path, 1);
  await assert.rejects(checkRoom(path, 2 ** 60), {
    code: "host.disk_full",
    message: / has .* free, and the snapshot needs \d+T/,
    hint: /hearth snapshot ls/,
  });
});
