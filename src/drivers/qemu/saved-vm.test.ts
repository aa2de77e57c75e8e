import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { QmpMonitor } from "#drivers/qemu/qmp.ts";
import { saveVm } from "#drivers/qemu/saved-vm.ts";

const MEMORY = Buffer.alloc(4 * 1024 * 1024, "m");
const never = new AbortController().signal;

type Command = { readonly execute: string; readonly id: number; readonly arguments?: { uri?: string } };

/** QEMU as far as it saves VMs: while it comes to the end, with its lock held, it answers nothing. */
class FakeQemu {
  readonly done: string[] = [];
  readonly toldToGoOn = Promise.withResolvers<void>();
  /** What it says is left, as long as it still sends. */
  remaining = 0;
  /** Whether its first migration comes to the end as soon as it is asked how far it is. */
  hurries = false;
  #socket: Socket | undefined;
  #status = "none";
  #running = true;
  #held: Command[] | undefined;

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

  /** Resolves when the guest runs. */
  async running(): Promise<void> {
    while (!this.#running) await new Promise((resolve) => setImmediate(resolve));
  }

  #take(command: Command): void {
    if (this.hurries && command.execute === "query-migrate" && this.#status === "active") {
      this.hurries = false;
      this.#held = [];
      this.#running = false;
    }
    if (this.#held === undefined) this.#answer(command);
    else this.#held.push(command);
  }

  #answer({ execute, id, arguments: take }: Command): void {
    this.done.push(execute);
    if (execute === "stop" || execute === "cont") this.#running = execute === "cont";
    if (execute === "cont") this.toldToGoOn.resolve();
    if (execute === "migrate") this.#migrate(String(take?.uri).replace("unix:", ""));
    const state = { running: this.#running, status: this.#status, ram: { remaining: this.remaining } };
    this.#socket?.write(`${JSON.stringify({ id, return: state })}\n`);
  }

  #migrate(path: string): void {
    this.#status = "active";
    const to = connect(path);
    to.on("error", () => {}); // Who saves may hang up.
    to.end(MEMORY, () => {
      this.#status = "completed";
      this.#running = false;
      const held = this.#held ?? [];
      this.#held = undefined;
      for (const command of held) this.#answer(command);
    });
  }
}

async function setUp(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), "hearth-save-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const qemu = new FakeQemu();
  const monitor = await qemu.open(t, join(folder, "qmp"));
  const saved = { memory: join(folder, "memory"), state: join(folder, "state") };
  const hooks = {
    quiesce: async () => {
      await qemu.running();
      qemu.done.push("quiesce");
    },
    halted: async () => void qemu.done.push("halted"),
  };
  const save = () => saveVm(monitor, folder, saved, hooks, 5_000, never);
  const steps = () => qemu.done.filter((step) => /^(quiesce|stop|cont|halted|migrate)$/.test(step));
  return { folder, qemu, hooks, save, steps };
}

test("the guest is halted when little is left, and goes on before all is written", async (t) => {
  const { folder, save, steps } = await setUp(t);
  await save();
  assert.deepEqual(steps(), ["migrate", "quiesce", "stop", "halted", "cont"]);
  assert.deepEqual(readFileSync(join(folder, "memory.stream")), MEMORY);
});

test("a QEMU that comes to its end while it is asked is read from, and saved once more", async (t) => {
  const { folder, qemu, save, steps } = await setUp(t);
  qemu.hurries = true;
  await save();
  assert.deepEqual(steps(), ["migrate", "cont", "quiesce", "stop", "migrate", "halted", "cont"]);
  assert.deepEqual(readFileSync(join(folder, "memory.stream")), MEMORY);
});

test("a guest that was halted before it had held its processes is let go on for that, and saved once more", async (t) => {
  const { folder, qemu, hooks, save, steps } = await setUp(t);
  const { quiesce } = hooks;
  hooks.quiesce = async () => {
    await qemu.toldToGoOn.promise;
    await quiesce();
  };
  await save();
  assert.deepEqual(steps(), ["migrate", "cont", "quiesce", "stop", "migrate", "halted", "cont"]);
  assert.deepEqual(readFileSync(join(folder, "memory.stream")), MEMORY);
});

test("a guest that does not hold its processes goes on, is not halted later, and nothing is left", async (t) => {
  const { folder, hooks, save, steps } = await setUp(t);
  hooks.quiesce = async () => {
    throw new Error("not now");
  };
  await assert.rejects(save(), /not now/);
  assert.deepEqual(steps(), ["migrate", "cont"]);
  assert.deepEqual(
    readdirSync(folder).filter((name) => name !== "qmp"),
    [],
  );
});
