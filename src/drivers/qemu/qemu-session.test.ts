import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import type { Server, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { VmmStatus, VmmWatcher } from "#drivers/vm-driver.ts";
import { END_WITH_OWN_RIGHTS } from "#drivers/end-vmm.ts";
import { QemuSession } from "#drivers/qemu/qemu-session.ts";
import { findProcess } from "#host/procfs.ts";
import type { VmHandle } from "#model/vm-handle.ts";

const never = new AbortController().signal;
const HEARTBEAT_MS = 20;
const timing = {
  heartbeatMs: HEARTBEAT_MS,
  answerDeadlineMs: 60_000,
  commandDeadlineMs: 60_000,
  startDeadlineMs: 60_000,
  terminateMs: 60_000,
};

/**
 * A fake QEMU with a monitor and a console, whose process is this test's. Reports its status while `answers` is true.
 */
class FakeQemu implements AsyncDisposable {
  readonly dir = mkdtempSync(join(tmpdir(), "session-"));
  readonly #sockets = new Set<Socket>();
  readonly #servers: Server[] = [];
  readonly #asked = new EventTarget();
  questions = 0;
  answers = true;

  readonly handle: VmHandle = {
    driver: "qemu",
    accel: "tcg",
    processes: [findProcess(process.pid) ?? assert.fail("we run")],
    stateDir: this.dir,
    agentSocket: join(this.dir, "agent.sock"),
    monitorSocket: join(this.dir, "monitor.sock"),
    consoleSocket: join(this.dir, "console.sock"),
  };

  async listen(): Promise<void> {
    await this.#serve(this.handle.consoleSocket, () => {});
    await this.#serve(this.handle.monitorSocket, (socket) => {
      socket.write(`{"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": []}}\r\n`);
      socket.on("data", (bytes) => {
        for (const line of String(bytes).trim().split("\n")) this.#answer(socket, JSON.parse(line));
      });
    });
  }

  /** Resolves at the next request for its status. */
  async asked(): Promise<void> {
    await once(this.#asked, "query-status");
  }

  #answer(socket: Socket, { execute, id }: { execute: string; id: number }): void {
    if (execute === "query-status") this.questions += 1;
    const refused = execute === "query-status" && !this.answers;
    const answer = refused ? `"error": {"desc": "not now"}` : `"return": {"status": "paused"}`;
    socket.write(`{${answer}, "id": ${id}}\r\n`);
    this.#asked.dispatchEvent(new Event(execute));
  }

  async #serve(path: string, talk: (socket: Socket) => void): Promise<void> {
    const server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on("error", () => {});
      talk(socket);
    });
    this.#servers.push(server);
    await once(server.listen(path), "listening");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    for (const server of this.#servers) await new Promise((resolve) => server.close(resolve));
    rmSync(this.dir, { recursive: true });
  }
}

/** Collects what the watcher is told, with a way to wait for it. */
function listener() {
  const heard: number[] = [];
  const events = new EventTarget();
  const watcher: VmmWatcher = {
    exited: () => {},
    silent(silentMs) {
      heard.push(silentMs);
      events.dispatchEvent(new Event("silent"));
    },
  };
  const until = async (is: () => boolean): Promise<void> => {
    while (!is()) await once(events, "silent");
  };
  return { watcher, heard, until };
}

async function open(qemu: FakeQemu): Promise<QemuSession> {
  await qemu.listen();
  const onTrouble = (_: string, error: unknown): never => assert.fail(String(error));
  return new QemuSession(qemu.handle, {
    timing,
    logMaxBytes: 2 ** 20,
    onTrouble,
    endVmm: END_WITH_OWN_RIGHTS,
    onEnd: () => {},
  });
}

test("silence is counted in heartbeats, and the first answer after it is reported once", async () => {
  await using qemu = new FakeQemu();
  const session = await open(qemu);
  const { watcher, heard, until } = listener();
  qemu.answers = false;
  session.watch(watcher, never);
  await until(() => heard.length >= 3);
  assert.deepEqual(heard.slice(0, 3), [HEARTBEAT_MS, 2 * HEARTBEAT_MS, 3 * HEARTBEAT_MS]);
  qemu.answers = true;
  await until(() => heard.at(-1) === 0);
  await qemu.asked();
  await qemu.asked();
  assert.equal(heard.filter((silentMs) => silentMs === 0).length, 1);
  session.release();
});

test("a heartbeat reports whether QEMU runs the vCPUs", async () => {
  await using qemu = new FakeQemu();
  const session = await open(qemu);
  const told = Promise.withResolvers<VmmStatus>();
  session.watch({ exited: () => {}, silent: () => {}, status: told.resolve }, never);
  assert.equal(await told.promise, "paused");
  session.release();
});

test("a QEMU that was asked to end gets no more requests", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  await using qemu = new FakeQemu();
  const session = await open(qemu);
  const answered = async (): Promise<void> => {
    // Answers come in order, so all earlier requests have been counted.
    await (await session.monitor(never)).send("stop", undefined, timing.commandDeadlineMs);
  };
  session.watch(listener().watcher, never);
  while (qemu.questions < 2) {
    t.mock.timers.tick(HEARTBEAT_MS);
    await answered();
  }
  session.markAsked();
  await session.quiet();
  const before = qemu.questions;
  t.mock.timers.tick(10 * HEARTBEAT_MS);
  await answered();
  assert.equal(qemu.questions, before);
  session.release();
});

test("the next request waits for a slow answer", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  await using qemu = new FakeQemu();
  const session = await open(qemu);
  session.watch(listener().watcher, never);
  t.mock.timers.tick(10 * HEARTBEAT_MS);
  await qemu.asked();
  session.markAsked();
  await session.quiet();
  assert.equal(qemu.questions, 1);
  session.release();
});

test("a caller that stops waiting for the monitor does not end the wait of others", async () => {
  await using qemu = new FakeQemu();
  const session = await open(qemu);
  const leaves = new AbortController();
  const first = session.monitor(leaves.signal);
  const second = session.monitor(never);
  leaves.abort(new Error("Ctrl-C"));
  await assert.rejects(first, /Ctrl-C/);
  assert.ok(await second);
  session.release();
});
