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

/** The behaviour of a QEMU while it sends; all but the first are those of a hostile QEMU or guest. */
type Behaviour =
  | "honest"
  /** The guest changes its memory as fast as it is sent: there is no end before it is paused. */
  | "dirtied"
  /** It sends without end, also after it was told to pause the guest. */
  | "endless"
  /** It reports that it is done, and does not close the connection. */
  | "lingering"
  /** It connects and sends nothing, forever. */
  | "silent";

/**
 * A fake QEMU that can save VMs. While it comes to the end of a migration it answers nothing, as QEMU does under its
 * lock.
 */
class FakeQemu {
  readonly done: string[] = [];
  readonly resumed = Promise.withResolvers<void>();
  /** The bytes that it reports as remaining, as long as it still sends. */
  remaining = 0;
  /** True when its first migration comes to the end as soon as it is asked for the progress. */
  endsWhenAsked = false;
  behaviour: Behaviour = "honest";
  rounds = 1;
  /** True when it never finishes the set-up of a migration. */
  neverFollows = false;
  downtimeLimitMs: number | undefined;
  sentBytes = 0;
  /** The connections that it has made to hearthd. */
  readonly connections: Socket[] = [];
  #socket: Socket | undefined;
  #status = "none";
  #running = true;
  #unanswered: Command[] | undefined;
  /** False after a migration until it was resumed: it does not migrate a guest twice. */
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

  /** Pauses the guest, and answers nothing before everything is sent. */
  reachTheEnd(): void {
    this.#unanswered = [];
    this.#running = false;
  }

  /** Resolves when the guest runs. */
  async running(): Promise<void> {
    while (!this.#running) await new Promise((resolve) => setImmediate(resolve));
  }

  #take(command: Command): void {
    if (this.endsWhenAsked && command.execute === "query-migrate" && this.#status === "active") {
      this.endsWhenAsked = false;
      this.reachTheEnd();
    }
    if (this.#unanswered === undefined) this.#answer(command);
    else this.#unanswered.push(command);
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
    if (execute === "cont") this.resumed.resolve();
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
    to.on("error", () => {}); // hearthd may close the connection.
    if (this.behaviour === "dirtied" || this.behaviour === "endless") return void this.#sendAgain(to);
    if (this.behaviour === "silent") return;
    this.sentBytes += MEMORY.length;
    if (this.behaviour === "lingering") to.write(MEMORY, () => this.#complete());
    else to.end(MEMORY, () => this.#complete());
  }

  #sendAgain(to: Socket): void {
    if (to.destroyed) return;
    this.sentBytes += MEMORY.length;
    const last = this.behaviour === "dirtied" && !this.#running;
    to.write(MEMORY, (error) => {
      if (error) this.#status = "failed";
      else if (!last) return this.#sendAgain(to);
      else to.end(() => this.#complete());
    });
  }

  #complete(): void {
    this.#status = "completed";
    this.#running = false;
    const unanswered = this.#unanswered ?? [];
    this.#unanswered = undefined;
    for (const command of unanswered) this.#answer(command);
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
  const steps = () => qemu.done.filter((step) => /^(quiesce|stop|cont|onPaused|migrate)$/.test(step));
  return { dir, files, qemu, hooks, save, steps };
}

test("the guest is paused when little is left, and resumed before all is written", async (t) => {
  const { dir, save, steps } = await setUp(t);
  await save();
  assert.deepEqual(steps(), ["migrate", "quiesce", "stop", "onPaused", "cont"]);
  assert.deepEqual(readFileSync(join(dir, "memory.stream")), MEMORY);
});

test("a QEMU that is at the end of its migration while it is asked is read from, and the VM saved again", async (t) => {
  const { dir, qemu, save, steps } = await setUp(t);
  qemu.endsWhenAsked = true;
  await save();
  assert.deepEqual(steps(), ["migrate", "cont", "quiesce", "stop", "migrate", "onPaused", "cont"]);
  assert.deepEqual(readFileSync(join(dir, "memory.stream")), MEMORY);
});

test("a guest that QEMU paused before it was quiesced is resumed, quiesced and saved again", async (t) => {
  const { dir, qemu, hooks, save, steps } = await setUp(t);
  const { quiesce } = hooks;
  hooks.quiesce = async () => {
    if (steps().length === 1) qemu.reachTheEnd();
    await qemu.resumed.promise;
    await quiesce();
  };
  await save();
  assert.deepEqual(steps(), ["migrate", "cont", "quiesce", "stop", "migrate", "onPaused", "cont"]);
  assert.deepEqual(readFileSync(join(dir, "memory.stream")), MEMORY);
});

test("an emulated guest is paused while QEMU begins to follow its changes", async (t) => {
  const { dir, qemu, save, steps } = await setUp(t);
  await save({ accel: "tcg" });
  assert.deepEqual(steps(), ["stop", "migrate", "cont", "quiesce", "stop", "onPaused", "cont"]);
  assert.equal(qemu.downtimeLimitMs, 0, "QEMU sends the memory once");
  assert.deepEqual(readFileSync(join(dir, "memory.stream")), MEMORY);
});

test("an emulated guest that ran while QEMU read its changes is saved once more, paused", async (t) => {
  const { dir, qemu, save, steps } = await setUp(t);
  qemu.rounds = 3;
  await save({ accel: "tcg" });
  const again = ["cont", "stop", "migrate"];
  assert.deepEqual(steps(), ["stop", "migrate", "cont", "quiesce", "stop", ...again, "onPaused", "cont"]);
  assert.deepEqual(readFileSync(join(dir, "memory.stream")), MEMORY);
});

test("an emulated guest whose save fails before its changes are followed is resumed, and no file is left", async (t) => {
  const { files, qemu, save, steps } = await setUp(t);
  qemu.behaviour = "silent";
  qemu.neverFollows = true;
  await assert.rejects(save({ accel: "tcg", deadlineMs: 200, saveDeadlineMs: 100 }), /did not finish/);
  assert.deepEqual(steps(), ["stop", "migrate", "cont"]);
  assert.deepEqual(files(), []);
});

test("a guest that cannot be quiesced is resumed, not paused later, and no file is left", async (t) => {
  const { files, hooks, save, steps } = await setUp(t);
  hooks.quiesce = async () => {
    throw new Error("not now");
  };
  await assert.rejects(save(), /not now/);
  assert.deepEqual(steps(), ["migrate", "cont"]);
  assert.deepEqual(files(), []);
});

/** The most that a running guest's pages may take, however often they are sent: see save-bounds.ts. */
const LIVE_BYTES = 1.5 * MEMORY.length;
/** The bytes in buffers, and those that are sent until the pause takes effect. */
const IN_FLIGHT_BYTES = 3 * MEMORY.length;

test("a guest that changes its memory as fast as it is sent is paused, and its save ends", async (t) => {
  const { dir, qemu, save, steps } = await setUp(t);
  qemu.behaviour = "dirtied";
  qemu.remaining = MEMORY.length;
  await save();
  assert.deepEqual(steps(), ["migrate", "quiesce", "stop", "onPaused", "cont"]);
  const { size } = statSync(join(dir, "memory.stream"));
  assert.ok(size <= LIVE_BYTES + IN_FLIGHT_BYTES, `${size} bytes were written`);
});

test("a guest is paused when QEMU claims that much is left, even if few bytes have arrived", async (t) => {
  const { qemu, hooks, save } = await setUp(t);
  qemu.behaviour = "dirtied";
  qemu.remaining = 2 ** 40;
  let sentBytes = 0;
  hooks.quiesce = async () => void (sentBytes = qemu.sentBytes);
  await save();
  assert.ok(sentBytes < LIVE_BYTES, `${sentBytes} bytes were sent before`);
});

test("a guest that changes a little in each of many rounds is paused in the end", async (t) => {
  const { qemu, save, steps } = await setUp(t);
  qemu.behaviour = "dirtied";
  qemu.remaining = 9 * 1024 * 1024;
  qemu.rounds = 11;
  // The limit of bytes must not be the reason.
  await save({ memoryBytes: 2 ** 40 });
  assert.deepEqual(steps(), ["migrate", "quiesce", "stop", "onPaused", "cont"]);
});

test("the stream of a QEMU that sends without end is cut off at a number of bytes, and no file is left", async (t) => {
  const { files, qemu, save, steps } = await setUp(t);
  qemu.behaviour = "endless";
  await assert.rejects(save(), { code: "snapshot.failed", message: /sent more than/ });
  assert.ok(qemu.sentBytes < 64 * MEMORY.length, `${qemu.sentBytes} bytes were sent`);
  assert.deepEqual(files(), []);
  assert.equal(steps().at(-1), "cont");
});

test("a QEMU that reports completion and keeps its connection open fails the save by a deadline", async (t) => {
  const { files, qemu, save } = await setUp(t);
  qemu.behaviour = "lingering";
  await assert.rejects(save({ deadlineMs: 300 }), { code: "vmm.unresponsive", message: /did not close/ });
  assert.deepEqual(files(), []);
  assert.equal(qemu.done.at(-1), "cont");
});

test("a save of a QEMU that never sends ends by its deadline, and by the caller's signal", async (t) => {
  const { files, qemu, save, steps } = await setUp(t);
  qemu.behaviour = "silent";
  const short = { deadlineMs: 200 };
  await assert.rejects(save({ ...short, saveDeadlineMs: 100 }), {
    code: "snapshot.failed",
    message: /did not finish/,
  });
  const reason = new Error("killed");
  const cancel = new AbortController();
  const saving = assert.rejects(save(short, cancel.signal), reason);
  cancel.abort(reason);
  await saving;
  assert.deepEqual(files(), []);
  assert.equal(steps().at(-1), "cont");
});

test("a save that was cut off leaves no connection to QEMU open", async (t) => {
  const { qemu, save } = await setUp(t);
  qemu.behaviour = "silent";
  await assert.rejects(save({ deadlineMs: 200, saveDeadlineMs: 50 }));
  const [connection = assert.fail("it has connected")] = qemu.connections;
  if (!connection.destroyed) await once(connection, "close");
});
