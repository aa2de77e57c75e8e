import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import type { Server, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { HearthError } from "#base/error.ts";
import { QmpMonitor } from "#drivers/qemu/qmp.ts";
import type { QmpEvent } from "#drivers/qemu/qmp.ts";
import { connectUnix } from "#host/unix-socket.ts";

const GREETING = `{"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": []}}\r\n`;
const DEADLINE_MS = 60_000;
const SHORT_MS = 30;

/** A monitor like QEMU's, with the answers of a test. */
class FakeMonitor implements AsyncDisposable {
  readonly #dir = mkdtempSync(join(tmpdir(), "qmp-"));
  readonly path = join(this.#dir, "qmp.sock");
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(
    greeting: string,
    answer: (command: { execute: string; id: number }, say: (text: string) => void) => void,
  ) {
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on("error", () => {});
      socket.write(greeting);
      socket.on("data", (bytes) => {
        for (const line of String(bytes).trim().split("\n"))
          answer(JSON.parse(line), (text) => socket.write(text));
      });
    }).listen(this.path);
  }
  hangUp(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
  async open(deadlineMs: number, onEvent: (event: QmpEvent) => void = () => {}): Promise<QmpMonitor> {
    return QmpMonitor.open(
      await connectUnix(this.path, undefined, new AbortController().signal),
      onEvent,
      deadlineMs,
    );
  }
  async [Symbol.asyncDispose](): Promise<void> {
    this.hangUp();
    await new Promise((resolve) => this.#server.close(resolve));
    rmSync(this.#dir, { recursive: true });
  }
}

const code = (wanted: string) => (error: unknown) => error instanceof HearthError && error.code === wanted;

describe("the QMP client", () => {
  test("returns to each request its own answer", async () => {
    const asked: { execute: string; id: number }[] = [];
    await using qemu = new FakeMonitor(GREETING, (command, say) => {
      if (command.execute === "qmp_capabilities") return say(`{"return": {}, "id": ${command.id}}\r\n`);
      asked.push(command);
      if (asked.length < 2) return;
      // Answered in the other order, in two pieces, with an event in between.
      const [first, second] = asked;
      say(`{"return": {"running": false, "status": "second"}, "id": ${second?.id}}\r\n{"event": "STOP", "da`);
      say(`ta": {}}\r\n{"return": {"running": true, "status": "first"}, "id": ${first?.id}}\r\n`);
    });
    const events: string[] = [];
    const monitor = await qemu.open(DEADLINE_MS, ({ event }) => events.push(event));
    const [first, second] = await Promise.all([
      monitor.send("query-status", undefined, DEADLINE_MS),
      monitor.send("query-status", undefined, DEADLINE_MS),
    ]);
    assert.deepEqual([first.status, second.status], ["first", "second"]);
    assert.deepEqual(events, ["STOP"]);
    monitor.close();
  });

  test("throws QEMU's reason for a refusal", async () => {
    await using qemu = new FakeMonitor(GREETING, ({ execute, id }, say) => {
      if (execute === "qmp_capabilities") say(`{"return": {}, "id": ${id}}\n`);
      else say(`{"error": {"class": "GenericError", "desc": "no disk"}, "id": ${id}}\n`);
    });
    const monitor = await qemu.open(DEADLINE_MS);
    await assert.rejects(monitor.send("cont", undefined, DEADLINE_MS), (error: HearthError) => {
      assert.equal(error.message, "QEMU refused cont");
      assert.equal((error.cause as Error).message, "no disk");
      return error.code === "vmm.failed";
    });
    monitor.close();
  });

  test("a QEMU that sends no greeting or no answer is unresponsive", async () => {
    await using mute = new FakeMonitor("", () => {});
    await assert.rejects(mute.open(SHORT_MS), code("vmm.unresponsive"));
    await using slow = new FakeMonitor(GREETING, ({ execute, id }, say) => {
      if (execute === "qmp_capabilities") say(`{"return": {}, "id": ${id}}\n`);
    });
    const monitor = await slow.open(DEADLINE_MS);
    await assert.rejects(monitor.send("stop", undefined, SHORT_MS), code("vmm.unresponsive"));
    monitor.close();
  });

  test("a request fails when QEMU ends before it answers", async () => {
    await using qemu = new FakeMonitor(GREETING, ({ execute, id }, say) => {
      if (execute === "qmp_capabilities") say(`{"return": {}, "id": ${id}}\n`);
      else qemu.hangUp();
    });
    const monitor = await qemu.open(DEADLINE_MS);
    await assert.rejects(monitor.send("stop", undefined, DEADLINE_MS), code("vmm.failed"));
    await monitor.closed;
    await assert.rejects(monitor.send("stop", undefined, DEADLINE_MS), code("vmm.failed"));
  });

  for (const line of ["null", "7", '"text"', "true"]) {
    test(`the connection of a QEMU that sends ${line} in place of a message is closed, and hearthd keeps running`, async () => {
      await using qemu = new FakeMonitor(GREETING, ({ execute, id }, say) => {
        say(execute === "qmp_capabilities" ? `{"return": {}, "id": ${id}}\n` : `${line}\n`);
      });
      const monitor = await qemu.open(DEADLINE_MS);
      await assert.rejects(monitor.send("stop", undefined, DEADLINE_MS), code("vmm.failed"));
      await monitor.closed;
    });
  }

  for (const [title, greeting] of [
    ["speaks something else", "SSH-2.0-OpenSSH_9.2\r\n"],
    ["never ends its line", "x".repeat(2 * 1024 * 1024)],
  ] as const) {
    test(`a program that ${title} is not taken for QEMU`, async () => {
      await using other = new FakeMonitor(greeting, () => {});
      await assert.rejects(other.open(DEADLINE_MS), code("vmm.failed"));
    });
  }
});
