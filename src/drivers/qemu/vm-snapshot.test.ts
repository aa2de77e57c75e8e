import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from "node:fs";
import { connect, createServer } from "node:net";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { QmpMonitor } from "#drivers/qemu/qmp.ts";
import { saveVm } from "#drivers/qemu/vm-snapshot.ts";
import type { SavingQemu } from "#drivers/qemu/vm-snapshot.ts";

const MEMORY = Buffer.alloc(4 * 1024 * 1024, "m");
const never = new AbortController().signal;

type Command = {
  readonly execute: string;
  readonly id: number;
  readonly arguments?: { uri?: string; "downtime-limit"?: number };
};

/** How a QEMU sends that is not its honest self, or whose guest is not. */
type Manner =
  | "honest"
  /** The guest changes its memory as fast as it is sent: there is no end before it is paused. */
  | "dirtied"
  /** It sends without end, also when it is told to pause the guest. */
  | "endless"
  /** It says that it is done, and does not hang up. */
  | "lingering"
  /** It connects and sends nothing, for ever. */
  | "silent";

/** QEMU as far as it saves VMs: while it comes to the end, with its lock held, it answers nothing. */
class FakeQemu {
  readonly done: string[] = [];
  readonly toldToGoOn = Promise.withResolvers<void>();
  /** What it says is left, as long as it still sends. */
  remaining = 0;
  /** Whether its first migration comes to the end as soon as it is asked how far it is. */
  hurries = false;
  manner: Manner = "honest";
  rounds = 1;
  /** Whether it stays at setting up what it is told to send. */
  neverFollows = false;
  downtimeLimitMs: number | undefined;
  sentBytes = 0;
  /** Of each connection that it made to who saves: whether that one is still open. */
  readonly connections: Socket[] = [];
  #socket: Socket | undefined;
  #status = "none";
  #running = true;
  #held: Command[] | undefined;
  /** It migrates no guest again that it has not let go on since. */
  #mayMigrate = true;

  async open(t: TestContext, path: string): Promise<QmpMonitor> {
    const server = createServer((socket) => {
      this.#socket = socket;
      socket.write(`{"QMP": {}}\n`);
      socket.on("data", (chunk) => {
        for (const line of chunk.toString().trim().split("\n")) this.#take(JSON.parse(line) as Command);
      });
    });
    server.listen(path);
    await once(server, "listening");
    const monitor = await QmpMonitor.open(connect(path), () => {}, 1_000);
    t.after(() => {
      monitor.close();
      server.close();
    });
    return monitor;
  }

  /** It has paused the guest, and answers nothing before it has sent everything. */
  comeToTheEnd(): void {
    this.#held = [];
    this.#running = false;
  }

  /** Resolves when the guest runs. */
  async running(): Promise<void> {
    while (!this.#running) await new Promise((resolve) => setImmediate(resolve));
  }

  #take(command: Command): void {
    if (this.hurries && command.execute === "query-migrate" && this.#status === "active") {
      this.hurries = false;
      this.comeToTheEnd();
    }
    if (this.#held === undefined) this.#answer(command);
    else this.#held.push(command);
  }

  #answer({ execute, id, arguments: take }: Command): void {
    this.done.push(execute);
    if (execute === "stop" || execute === "cont") this.#running = execute === "cont";
    if (execute === "cont") this.#mayMigrate = true;
    if (execute === "migrate" && !this.#mayMigrate) {
      const error = { class: "GenericError", desc: "Can't migrate the vm that was paused" };
      return void this.#socket?.write(`${JSON.stringify({ id, error })}\n`);
    }
    if (execute === "migrate") this.#mayMigrate = false;
    if (execute === "cont") this.toldToGoOn.resolve();
    this.downtimeLimitMs = take?.["downtime-limit"] ?? this.downtimeLimitMs;
    if (execute === "migrate") this.#migrate(String(take?.uri).replace("unix:", ""));
    const ram = { remaining: this.remaining, "dirty-sync-count": this.rounds };
    const state = { running: this.#running, status: this.#status, ram };
    this.#socket?.write(`${JSON.stringify({ id, return: state })}\n`);
  }

  #migrate(path: string): void {
    this.#status = this.neverFollows ? "setup" : "active";
    const to = connect(path);
    this.connections.push(to);
    to.on("error", () => {}); // Who saves may hang up.
    if (this.manner === "dirtied" || this.manner === "endless") return void this.#sendAgain(to);
    if (this.manner === "silent") return;
    this.sentBytes += MEMORY.length;
    if (this.manner === "lingering") to.write(MEMORY, () => this.#complete());
    else to.end(MEMORY, () => this.#complete());
  }

  #sendAgain(to: Socket): void {
    if (to.destroyed) return;
    this.sentBytes += MEMORY.length;
    const last = this.manner === "dirtied" && !this.#running;
    to.write(MEMORY, (error) => {
      if (error) this.#status = "failed";
      else if (!last) return this.#sendAgain(to);
      else to.end(() => this.#complete());
    });
  }

  #complete(): void {
    this.#status = "completed";
    this.#running = false;
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const command of held) this.#answer(command);
  }
}

async function setUp(t: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), "hearth-save-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const qemu = new FakeQemu();
  const monitor = await qemu.open(t, join(dir, "qmp"));
  const saved = { memory: join(dir, "memory"), state: join(dir, "state") };
  const hooks = {
    quiesce: async () => {
      await qemu.running();
      qemu.done.push("quiesce");
    },
    onPaused: async () => void qemu.done.push("onPaused"),
  };
  const save = (more: Partial<SavingQemu> = {}, signal = never) =>
    saveVm(
      { monitor, runDir: dir, accel: "kvm", memoryBytes: MEMORY.length, deadlineMs: 5_000, ...more },
      saved,
      hooks,
      signal,
    );
  const files = () => readdirSync(dir).filter((name) => name !== "qmp");
  const steps = () => qemu.done.filter((step) => /^(quiesce|stop|cont|halted|migrate)$/.test(step));
  return { dir, files, qemu, hooks, save, steps };
}

test("the guest is halted when little is left, and goes on before all is written", async (t) => {
  const { dir, save, steps } = await setUp(t);
  await save();
  assert.deepEqual(steps(), ["migrate", "quiesce", "stop", "onPaused", "cont"]);
  assert.deepEqual(readFileSync(join(dir, "memory.stream")), MEMORY);
});

test("a QEMU that comes to its end while it is asked is read from, and saved once more", async (t) => {
  const { dir, qemu, save, steps } = await setUp(t);
  qemu.hurries = true;
  await save();
  assert.deepEqual(steps(), ["migrate", "cont", "quiesce", "stop", "migrate", "onPaused", "cont"]);
  assert.deepEqual(readFileSync(join(dir, "memory.stream")), MEMORY);
});

test("a guest that was halted before it had held its processes is let go on for that, and saved once more", async (t) => {
  const { dir, qemu, hooks, save, steps } = await setUp(t);
  const { quiesce } = hooks;
  hooks.quiesce = async () => {
    if (steps().length === 1) qemu.comeToTheEnd();
    await qemu.toldToGoOn.promise;
    await quiesce();
  };
  await save();
  assert.deepEqual(steps(), ["migrate", "cont", "quiesce", "stop", "migrate", "onPaused", "cont"]);
  assert.deepEqual(readFileSync(join(dir, "memory.stream")), MEMORY);
});

test("an emulated guest is paused while QEMU begins to follow what it changes", async (t) => {
  const { dir, qemu, save, steps } = await setUp(t);
  await save({ accel: "tcg" });
  assert.deepEqual(steps(), ["stop", "migrate", "cont", "quiesce", "stop", "onPaused", "cont"]);
  assert.equal(qemu.downtimeLimitMs, 0, "it does not look again");
  assert.deepEqual(readFileSync(join(dir, "memory.stream")), MEMORY);
});

test("an emulated guest that ran while QEMU took its changes is saved once more, paused", async (t) => {
  const { dir, qemu, save, steps } = await setUp(t);
  qemu.rounds = 3;
  await save({ accel: "tcg" });
  const again = ["cont", "stop", "migrate"];
  assert.deepEqual(steps(), ["stop", "migrate", "cont", "quiesce", "stop", ...again, "onPaused", "cont"]);
  assert.deepEqual(readFileSync(join(dir, "memory.stream")), MEMORY);
});

test("an emulated guest whose save fails before it is followed goes on, and nothing is left", async (t) => {
  const { files, qemu, save, steps } = await setUp(t);
  qemu.manner = "silent";
  qemu.neverFollows = true;
  await assert.rejects(save({ accel: "tcg", deadlineMs: 200, saveDeadlineMs: 100 }), /was not done/);
  assert.deepEqual(steps(), ["stop", "migrate", "cont"]);
  assert.deepEqual(files(), []);
});

test("a guest that does not hold its processes goes on, is not halted later, and nothing is left", async (t) => {
  const { files, hooks, save, steps } = await setUp(t);
  hooks.quiesce = async () => {
    throw new Error("not now");
  };
  await assert.rejects(save(), /not now/);
  assert.deepEqual(steps(), ["migrate", "cont"]);
  assert.deepEqual(files(), []);
});

/** What the guest's pages, sent anew and anew, may come to: see save-bounds.ts. */
const LIVE_BYTES = 1.5 * MEMORY.length;
/** In buffers on the way, and until the pause has its effect. */
const ON_THE_WAY_BYTES = 3 * MEMORY.length;

test("a guest that changes its memory as fast as it is sent is paused, and its save ends", async (t) => {
  const { dir, qemu, save, steps } = await setUp(t);
  qemu.manner = "dirtied";
  qemu.remaining = MEMORY.length;
  await save();
  assert.deepEqual(steps(), ["migrate", "quiesce", "stop", "onPaused", "cont"]);
  const { size } = statSync(join(dir, "memory.stream"));
  assert.ok(size <= LIVE_BYTES + ON_THE_WAY_BYTES, `${size} bytes were written`);
});

test("a guest is paused although QEMU says that much is left, and few bytes have come", async (t) => {
  const { qemu, hooks, save } = await setUp(t);
  qemu.manner = "dirtied";
  qemu.remaining = 2 ** 40;
  let sentBytes = 0;
  hooks.quiesce = async () => void (sentBytes = qemu.sentBytes);
  await save();
  assert.ok(sentBytes < LIVE_BYTES, `${sentBytes} bytes were sent before`);
});

test("a guest that changes a little in each of many rounds is paused in the end", async (t) => {
  const { qemu, save, steps } = await setUp(t);
  qemu.manner = "dirtied";
  qemu.remaining = 9 * 1024 * 1024;
  qemu.rounds = 11;
  // So that it is not the bytes.
  await save({ memoryBytes: 2 ** 40 });
  assert.deepEqual(steps(), ["migrate", "quiesce", "stop", "onPaused", "cont"]);
});

test("a QEMU that sends without end is cut off at a number of bytes, and nothing is left", async (t) => {
  const { files, qemu, save, steps } = await setUp(t);
  qemu.manner = "endless";
  await assert.rejects(save(), { code: "snapshot.failed", message: /sent more than/ });
  assert.ok(qemu.sentBytes < 64 * MEMORY.length, `${qemu.sentBytes} bytes were sent`);
  assert.deepEqual(files(), []);
  assert.equal(steps().at(-1), "cont");
});

test("a QEMU that says that it is done, and keeps its connection open, fails the save by a deadline", async (t) => {
  const { files, qemu, save } = await setUp(t);
  qemu.manner = "lingering";
  await assert.rejects(save({ deadlineMs: 300 }), { code: "vmm.unresponsive", message: /did not close/ });
  assert.deepEqual(files(), []);
  assert.equal(qemu.done.at(-1), "cont");
});

test("a save of a QEMU that never sends ends by its deadline, and by the caller's signal", async (t) => {
  const { files, qemu, save, steps } = await setUp(t);
  qemu.manner = "silent";
  const short = { deadlineMs: 200 };
  await assert.rejects(save({ ...short, saveDeadlineMs: 100 }), {
    code: "snapshot.failed",
    message: /was not done/,
  });
  const reason = new Error("killed");
  const cancel = new AbortController();
  const saving = assert.rejects(save(short, cancel.signal), reason);
  cancel.abort(reason);
  await saving;
  assert.deepEqual(files(), []);
  assert.equal(steps().at(-1), "cont");
});

test("a save that was cut off leaves no connection to QEMU behind", async (t) => {
  const { qemu, save } = await setUp(t);
  qemu.manner = "silent";
  await assert.rejects(save({ deadlineMs: 200, saveDeadlineMs: 50 }));
  const [connection = assert.fail("it has connected")] = qemu.connections;
  if (!connection.destroyed) await once(connection, "close");
});
