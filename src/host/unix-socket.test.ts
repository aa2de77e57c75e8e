import assert from "node:assert/strict";
import { chownSync, linkSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { TestContext } from "node:test";
import { HearthError } from "#base/error.ts";
import { checkSocketPath, connectUnix, connectWhenReady, isListening } from "#host/unix-socket.ts";

const never = new AbortController().signal;

function refused(path: string): boolean {
  try {
    checkSocketPath(path);
    return false;
  } catch (error) {
    return error instanceof HearthError && error.code === "host.path_too_long";
  }
}

describe("a socket path", () => {
  test("of 107 bytes fits", () => assert.equal(refused("/".padEnd(107, "a")), false));
  test("of 108 bytes is refused", () => assert.equal(refused("/".padEnd(108, "a")), true));
  test("is measured in bytes, not in letters", () => assert.equal(refused("/".padEnd(70, "ä")), true));
});

describe("connecting to a program that has just been started", () => {
  test("waits until it listens", async () => {
    const dir = mkdtempSync(join(tmpdir(), "socket-"));
    const path = join(dir, "s");
    let tries = 0;
    const server = createServer((socket) => socket.end());
    const socket = await connectWhenReady(
      path,
      undefined,
      () => void (++tries === 3 && server.listen(path)),
      never,
    );
    assert.equal(await isListening(path), true);
    socket.destroy();
    await new Promise((resolve) => server.close(resolve));
    assert.equal(await isListening(path), false);
    rmSync(dir, { recursive: true });
  });

  test("ends with the reason when the program has died", async () => {
    const died = new Error("exit code 1");
    await assert.rejects(
      connectWhenReady("/nowhere/socket", undefined, () => died, never),
      died,
    );
  });

  test("ends with the caller's reason when the caller aborts", async () => {
    const cancel = new AbortController();
    const reason = new Error("not wanted");
    const connecting = connectWhenReady(
      "/nowhere/socket",
      undefined,
      () => void cancel.abort(reason),
      cancel.signal,
    );
    await assert.rejects(connecting, reason);
  });
});

describe("a socket that a hostile program may have replaced", () => {
  /** Makes another program's socket, and a path for the expected one. */
  async function twoPaths(t: TestContext) {
    const dir = mkdtempSync(join(tmpdir(), "socket-"));
    const [other, ours] = [join(dir, "other"), join(dir, "ours")];
    const greeted: string[] = [];
    const server = createServer((socket) => {
      greeted.push("somebody");
      socket.end();
    });
    await new Promise<void>((resolve) => server.listen(other, resolve));
    t.after(() => {
      server.close();
      rmSync(dir, { recursive: true });
    });
    return { other, ours, greeted };
  }

  test("is connected to while it is a socket", async (t) => {
    const { other, greeted } = await twoPaths(t);
    const socket = await connectUnix(other, undefined, never);
    await new Promise((resolve) => socket.resume().once("close", resolve));
    assert.deepEqual(greeted, ["somebody"]);
  });

  test("by a link to another one is refused, and no program gets a connection", async (t) => {
    const { other, ours, greeted } = await twoPaths(t);
    symlinkSync(other, ours);
    const isLink = { code: "path.unmanaged", message: /symbolic link/ };
    await assert.rejects(connectUnix(ours, undefined, never), isLink);
    await assert.rejects(
      connectWhenReady(ours, undefined, () => undefined, never),
      isLink,
    );
    assert.equal(await isListening(ours), false);
    assert.deepEqual(greeted, []);
  });

  test("by a file is refused", async (t) => {
    const { ours } = await twoPaths(t);
    writeFileSync(ours, "");
    await assert.rejects(connectUnix(ours, undefined, never), {
      code: "path.unmanaged",
      message: /not a socket/,
    });
  });

  test("that belongs to another uid is refused", async (t) => {
    const { other } = await twoPaths(t);
    await assert.rejects(connectUnix(other, 1_950_000_000, never), {
      code: "path.unmanaged",
      message: /belongs to uid \d+, not to 1950000000/,
    });
    if (process.geteuid?.() !== 0) return;
    chownSync(other, 1_950_000_000, 1_950_000_000);
    (await connectUnix(other, 1_950_000_000, never)).destroy();
    await assert.rejects(connectUnix(other, undefined, never), { code: "path.unmanaged" });
  });

  test("is named by its own path when no program listens", async () => {
    const dir = mkdtempSync(join(tmpdir(), "socket-"));
    const path = join(dir, "s");
    const server = createServer().listen(path);
    await new Promise((resolve) => server.once("listening", resolve));
    // A killed program leaves its socket's name.
    const kept = join(dir, "kept");
    linkSync(path, kept);
    await new Promise((resolve) => server.close(resolve));
    await assert.rejects(connectUnix(kept, undefined, never), (error: NodeJS.ErrnoException) => {
      assert.equal(error.code, "ECONNREFUSED");
      assert.ok(error.message.includes(kept));
      return true;
    });
    rmSync(dir, { recursive: true });
  });
});
