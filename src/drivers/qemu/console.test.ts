import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { recordConsole } from "#drivers/qemu/console.ts";
import { endsInPanic } from "#drivers/record-stream.ts";

const MIB = 1024 ** 2;
const never = new AbortController().signal;

function unexpected(path: string, error: unknown): void {
  throw new Error(`${path} cannot be written`, { cause: error });
}

/** A guest that prints `chunks` and closes the console. */
class Guest implements AsyncDisposable {
  readonly dir = mkdtempSync(join(tmpdir(), "console-"));
  readonly path = join(this.dir, "console.sock");
  readonly log = join(this.dir, "console.log");
  readonly #server;

  constructor(chunks: () => Iterable<Buffer>) {
    this.#server = createServer(async (socket) => {
      for (const chunk of chunks()) {
        if (!socket.write(chunk)) await new Promise((resolve) => socket.once("drain", resolve));
      }
      socket.end();
    }).listen(this.path);
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise((resolve) => this.#server.close(resolve));
    rmSync(this.dir, { recursive: true });
  }
}

test("the guest's output is in the file, byte for byte", async () => {
  const words = [Buffer.from("one\r\n"), Buffer.from([0, 0xff, 0x1b]), Buffer.from("two\n")];
  await using guest = new Guest(() => words);
  const recorder = await recordConsole(
    { path: guest.path, owner: undefined },
    guest.log,
    { maxBytes: MIB, resumed: false, onTrouble: unexpected },
    never,
  );
  await recorder.ended;
  assert.deepEqual(readFileSync(guest.log), Buffer.concat(words));
  assert.equal(statSync(guest.log).mode & 0o777, 0o600);
});

test("a recorder that starts late notes that lines may be missing", async () => {
  await using guest = new Guest(() => [Buffer.from("later\n")]);
  const recorder = await recordConsole(
    { path: guest.path, owner: undefined },
    guest.log,
    { maxBytes: MIB, resumed: true, onTrouble: unexpected },
    never,
  );
  await recorder.ended;
  assert.match(readFileSync(guest.log, "utf8"), /lines may be missing here\]\nlater\n$/);
});

test("a guest that prints 1 GiB fills neither disk nor memory", async () => {
  const chunk = Buffer.alloc(MIB, "x".repeat(79) + "\n");
  await using guest = new Guest(function* () {
    for (let sent = 0; sent < 1024; sent++) yield chunk;
  });
  const before = process.memoryUsage().rss;
  let peak = 0;
  const sampling = setInterval(() => (peak = Math.max(peak, process.memoryUsage().rss)), 20);
  const recorder = await recordConsole(
    { path: guest.path, owner: undefined },
    guest.log,
    { maxBytes: MIB, resumed: false, onTrouble: unexpected },
    never,
  );
  await recorder.ended;
  clearInterval(sampling);
  assert.ok(peak - before < 96 * MIB, `memory grew by ${(peak - before) / MIB} MiB`);
  assert.ok(statSync(guest.log).size <= MIB);
  assert.equal(statSync(`${guest.log}.1`).size, MIB);
});

test("a console whose file cannot be written is still read, so that the guest never waits", async () => {
  await using guest = new Guest(() => [Buffer.alloc(8 * MIB, "x")]);
  // Every write to /dev/full fails, as on a full disk.
  const troubles: unknown[] = [];
  const onTrouble = (_: string, error: unknown): void => void troubles.push(error);
  const recorder = await recordConsole(
    { path: guest.path, owner: undefined },
    "/dev/full",
    { maxBytes: MIB, resumed: false, onTrouble },
    never,
  );
  await recorder.ended;
  assert.deepEqual(
    troubles.map((error) => (error as NodeJS.ErrnoException).code),
    ["ENOSPC"],
  );
});

test("a panic is recognized by the end of the console log", async () => {
  await using guest = new Guest(() => [
    Buffer.from("[ 2.0] Kernel panic - not syncing: Attempted to kill init!\n"),
  ]);
  assert.equal(endsInPanic(guest.log), false, "there is no console yet");
  const recorder = await recordConsole(
    { path: guest.path, owner: undefined },
    guest.log,
    { maxBytes: MIB, resumed: false, onTrouble: unexpected },
    never,
  );
  await recorder.ended;
  assert.equal(endsInPanic(guest.log), true);
});
