import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { HearthError } from "#base/error.ts";
import { checkSocketPath, connectWhenReady, isListening } from "#host/unix-socket.ts";

const never = new AbortController().signal;

function refused(path: string): boolean {
  try {
    checkSocketPath(path);
    return false;
  } catch (error) {
    return error instanceof HearthError && error.code === "host.path_too_long";
  }
}

describe("BG-025: a socket path", () => {
  test("of 107 bytes fits", () => assert.equal(refused("/".padEnd(107, "a")), false));
  test("of 108 bytes is refused", () => assert.equal(refused("/".padEnd(108, "a")), true));
  test("is measured in bytes, not in letters", () => assert.equal(refused("/".padEnd(70, "ä")), true));
});

describe("connecting to a program that only just started", () => {
  test("waits until it listens", async () => {
    const folder = mkdtempSync(join(tmpdir(), "socket-"));
    const path = join(folder, "s");
    let tries = 0;
    const server = createServer((socket) => socket.end());
    const socket = await connectWhenReady(path, () => void (++tries === 3 && server.listen(path)), never);
    assert.equal(await isListening(path), true);
    socket.destroy();
    await new Promise((resolve) => server.close(resolve));
    assert.equal(await isListening(path), false);
    rmSync(folder, { recursive: true });
  });

  test("SV-024: ends with the reason when the program has died", async () => {
    const died = new Error("exit code 1");
    await assert.rejects(
      connectWhenReady("/nowhere/socket", () => died, never),
      died,
    );
  });

  test("ends with the caller's reason when the caller gives up", async () => {
    const cancel = new AbortController();
    const reason = new Error("not wanted");
    const connecting = connectWhenReady("/nowhere/socket", () => void cancel.abort(reason), cancel.signal);
    await assert.rejects(connecting, reason);
  });
});
