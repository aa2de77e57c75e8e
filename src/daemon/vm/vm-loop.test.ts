import assert from "node:assert/strict";
import { test } from "node:test";
import { decide, VmLoop } from "#daemon/vm/vm-loop.ts";
import type { VmEvent } from "#daemon/vm/vm-loop.ts";
import { snapshotIdFrom } from "#model/ids.ts";
import { denial, moveTo, VM_ACTIONS, VM_PHASES } from "#model/vm-state.ts";
import type { VmPhase, VmState } from "#model/vm-state.ts";

const handle = {
  driver: "fake",
  accel: "tcg",
  process: { pid: 5_000_000, startTicks: 1, hostBootId: "x" },
  stateDir: "/s",
  agentSocket: "/a",
  monitorSocket: "/m",
  consoleSocket: "/c",
} as const;

const snapshot = snapshotIdFrom(new Uint8Array(12));

const STATES: Record<VmPhase, VmState> = {
  created: { phase: "created" },
  starting: { phase: "starting", sinceMs: 1 },
  running: { phase: "running", handle, startedAtMs: 1 },
  paused: { phase: "paused", handle, startedAtMs: 1 },
  stopping: { phase: "stopping", handle, startedAtMs: 1 },
  stopped: { phase: "stopped", exit: { reason: "asked", atMs: 1 } },
  suspended: { phase: "suspended", snapshot, sinceMs: 1 },
  failed: { phase: "failed", code: "vm.gone", message: "gone", atMs: 1 },
};

const EVENTS: { title: string; event: VmEvent; from: VmPhase; to: VmPhase }[] = [
  { title: "an asked start", event: { type: "start-asked", atMs: 2 }, from: "created", to: "starting" },
  {
    title: "an agent that answers",
    event: { type: "agent-ready", handle, atMs: 2 },
    from: "starting",
    to: "running",
  },
  {
    title: "a failed start",
    event: { type: "start-failed", code: "vm.boot_failed", message: "m", atMs: 2 },
    from: "starting",
    to: "failed",
  },
  {
    title: "a cancelled start",
    event: { type: "start-cancelled", back: STATES.stopped },
    from: "starting",
    to: "stopped",
  },
  { title: "a pause", event: { type: "paused" }, from: "running", to: "paused" },
  { title: "a resume", event: { type: "resumed" }, from: "paused", to: "running" },
  { title: "a stop", event: { type: "stop-asked" }, from: "paused", to: "stopping" },
  { title: "a power-off from inside", event: exited("guest"), from: "running", to: "stopped" },
  { title: "an end that nobody asked for", event: exited("died"), from: "running", to: "failed" },
  { title: "BG-074: a kill that was asked for", event: exited("died"), from: "stopping", to: "stopped" },
  { title: "an end that nobody saw", event: exited("unseen"), from: "running", to: "stopped" },
  {
    title: "an end while it starts, which the flow sees itself,",
    event: exited("died"),
    from: "starting",
    to: "starting",
  },
  {
    title: "the end of a suspension",
    event: { type: "suspended", snapshot, atMs: 2 },
    from: "stopping",
    to: "suspended",
  },
  { title: "a wake-up", event: { type: "start-asked", atMs: 2 }, from: "suspended", to: "starting" },
  {
    title: "a wake-up that left no traces",
    event: { type: "start-cancelled", back: STATES.suspended },
    from: "starting",
    to: "suspended",
  },
  {
    title: "a memory that is given up",
    event: { type: "forgotten", exit: { reason: "asked", atMs: 2 } },
    from: "suspended",
    to: "stopped",
  },
  {
    title: "a suspension of what went down meanwhile",
    event: { type: "suspended", snapshot, atMs: 2 },
    from: "failed",
    to: "failed",
  },
  { title: "a pause that comes too late", event: { type: "paused" }, from: "stopping", to: "stopping" },
];

function exited(reason: "guest" | "died" | "unseen"): VmEvent {
  return { type: "vmm-exited", exit: { reason, atMs: 2 } };
}

for (const { title, event, from, to } of EVENTS) {
  test(`BG-006: ${title} takes a VM from ${from} to ${to}`, () => {
    assert.equal(decide(STATES[from], event).phase, to);
  });
}

test("BG-006: a VM never goes where the table has no arrow", () => {
  assert.throws(() => moveTo(STATES.stopped, STATES.running), /never goes from stopped to running/);
  assert.throws(() => moveTo(STATES.created, STATES.stopping), /never goes from created to stopping/);
});

test("every action is possible in some phase and refused with a reason in the others", () => {
  for (const action of VM_ACTIONS) {
    const refused = VM_PHASES.filter((phase) => denial(action, phase) !== undefined);
    assert.ok(refused.length < VM_PHASES.length, `${action} is possible somewhere`);
    for (const phase of refused)
      assert.match(denial(action, phase) ?? "", new RegExp(`is ${phase} cannot ${action}; it must be`));
  }
});

test("SV-014: a VM that was never started cannot pause", () => {
  assert.match(denial("pause", "created") ?? "", /created cannot pause/);
  assert.equal(denial("pause", "running"), undefined);
});

test("one action at a time: a second is refused, and says what is under way", async () => {
  const loop = new VmLoop(STATES.running, () => {});
  const gate = Promise.withResolvers<void>();
  const { signal } = new AbortController();
  const first = loop.exclusive("stop", "web", () => gate.promise, signal);
  await assert.rejects(
    loop.exclusive("pause", "web", async () => {}, signal),
    /web is busy: stop is under way/,
  );
  gate.resolve();
  await first;
  await loop.exclusive("pause", "web", async () => {}, signal);
});

test("a stronger action ends the one under way and waits until it has cleaned up", async () => {
  const loop = new VmLoop(STATES.starting, () => {});
  const order: string[] = [];
  const first = loop.exclusive(
    "start",
    "web",
    (signal) =>
      new Promise<void>((_, reject) => {
        signal.addEventListener("abort", () => {
          order.push("cleaned up");
          reject(signal.reason);
        });
      }),
    new AbortController().signal,
  );
  const seen = assert.rejects(first, /killed/);
  const { signal } = new AbortController();
  await loop.exclusive("kill", "web", async () => void order.push("took over"), signal, "The VM was killed.");
  await seen;
  assert.deepEqual(order, ["cleaned up", "took over"]);
});

test("a state is stored before anybody can read it", () => {
  const stored: string[] = [];
  const loop: VmLoop = new VmLoop(STATES.running, (next) => {
    assert.equal(loop.state.phase, "running");
    stored.push(next.phase);
  });
  loop.send({ type: "paused" });
  assert.equal(loop.state.phase, "paused");
  assert.deepEqual(stored, ["paused"]);
});

test("a state that cannot be stored does not become the VM's", () => {
  const loop = new VmLoop(STATES.running, () => {
    throw new Error("disk full");
  });
  assert.throws(() => loop.send({ type: "paused" }), /disk full/);
  assert.equal(loop.state.phase, "running");
});
