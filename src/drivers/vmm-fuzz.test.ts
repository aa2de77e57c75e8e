/** A VMM that was taken over cannot end hearthd, whatever it writes on its sockets. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { HearthError } from "#base/error.ts";
import { exchange, refusal } from "#drivers/firecracker/api/exchange.ts";
import { QmpMonitor } from "#drivers/qemu/qmp.ts";
import { Fuzz } from "#testing/fuzz.ts";

const LINES = 50_000;
const PER_MONITOR = 50;
const ANSWERS = 5_000;
const AT_ONCE = 10;
const DEADLINE_MS = 50;

const KEYS = ["QMP", "event", "data", "reason", "id", "return", "error", "desc", "class", "status", "ram"];

/** Serves each connection with `serve`, for the rest of the test. */
async function vmm(t: TestContext, serve: (socket: Socket) => void): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), "fuzz-"));
  const server = createServer((socket) => serve(socket.on("error", () => undefined))); // Peers hang up at any time.
  server.listen(join(dir, "vmm.sock"));
  await once(server, "listening");
  t.after(() => {
    server.close();
    rmSync(dir, { recursive: true });
  });
  return join(dir, "vmm.sock");
}

/** Runs `work` many times, several at once; each error must be a HearthError. */
async function often(times: number, work: () => Promise<unknown>): Promise<void> {
  let left = times;
  const worker = async (): Promise<void> => {
    while (left-- > 0) {
      await work().catch((error: unknown) => assert.ok(error instanceof HearthError, String(error)));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

function qmpLine(fuzz: Fuzz): Buffer {
  const shapes = [
    () => ({ event: "SHUTDOWN", data: fuzz.value(KEYS) }),
    () => ({ event: fuzz.value(KEYS), data: fuzz.value(KEYS) }),
    () => ({ id: fuzz.int(3), return: fuzz.value(KEYS) }),
    () => ({ id: fuzz.int(3), error: fuzz.value(KEYS) }),
    () => ({ event: "STOP", data: { reason: fuzz.value(KEYS) } }),
    () => ({ event: "RESUME" }),
  ];
  const line = Buffer.from(`${JSON.stringify(fuzz.pick(shapes)())}\n`);
  return fuzz.oneIn(100) ? fuzz.mutated(line) : line;
}

test(`${LINES} hostile lines on QMP end in answers, or in errors of Hearth`, async (t) => {
  const fuzz = new Fuzz(t);
  const path = await vmm(t, (socket) => {
    socket.write('{"QMP":{}}\n{"id":1,"return":{}}\n');
    socket.write(Buffer.concat(Array.from({ length: PER_MONITOR }, () => qmpLine(fuzz))));
    socket.once("data", () => socket.end());
  });
  let events = 0;
  // A reader that trusts what it gets.
  const onEvent = ({ data }: { data?: Readonly<Record<string, unknown>> | undefined }): void => {
    events += String(data?.["reason"]).length;
  };
  await often(LINES / PER_MONITOR, async () => {
    const monitor = await QmpMonitor.open(connect(path), onEvent, DEADLINE_MS);
    await monitor.send("query-status", undefined, DEADLINE_MS).finally(() => monitor.close());
  });
  assert.ok(events > 0, "some are read");
});

function answer(fuzz: Fuzz): Buffer {
  const body = JSON.stringify(fuzz.value(["fault_message", "id", "state", "vmm_version"]));
  const head = `HTTP/1.1 ${fuzz.pick([200, 204, 400, 101, 100, 500, 999])} OK\r\ncontent-length: ${body.length}\r\n`;
  const more = fuzz.oneIn(4) ? "transfer-encoding: chunked\r\n" : "";
  const bytes = Buffer.from(`${head}${more}\r\n${body}`);
  return fuzz.oneIn(2) ? fuzz.mutated(bytes) : bytes;
}

test(`${ANSWERS} hostile answers of Firecracker's API end in answers, or in errors of Hearth`, async (t) => {
  const fuzz = new Fuzz(t);
  const socketPath = await vmm(t, (socket) => {
    socket.once("data", () => {
      socket.write(answer(fuzz));
      if (fuzz.oneIn(2)) socket.end();
      else socket.destroySoon();
    });
  });
  let answers = 0;
  const request = { method: "PUT", path: "/actions", body: {} } as const;
  await often(ANSWERS, async () => {
    const got = await exchange({ socketPath }, request, DEADLINE_MS, t.signal);
    answers += 1;
    if (!got.ok) throw refusal(request, got);
  });
  assert.ok(answers > 0, "some are read");
});
