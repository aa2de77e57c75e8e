import assert from "node:assert/strict";
import { test } from "node:test";
import { decide } from "#model/decide-vm.ts";
import type { VmEvent } from "#model/decide-vm.ts";
import { snapshotIdFrom } from "#model/ids.ts";
import type { ExitReason } from "#model/vm-handle.ts";
import { denial, moveTo, VM_ACTIONS, VM_PHASES } from "#model/vm-state.ts";
import type { VmPhase, VmState } from "#model/vm-state.ts";

const handle = {
  driver: "fake",
  accel: "tcg",
  processes: [{ pid: 5_000_000, startTicks: 1, hostBootId: "x" }],
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
  { title: "a panic of the guest's kernel", event: exited("panicked"), from: "running", to: "failed" },
  { title: "a panic during a stop", event: exited("panicked"), from: "stopping", to: "stopped" },
  { title: "a reboot", event: exited("rebooted"), from: "paused", to: "stopped" },
  { title: "a kill that was asked for", event: exited("died"), from: "stopping", to: "stopped" },
  { title: "an end that nobody saw", event: exited("unseen"), from: "running", to: "stopped" },
  {
    title: "an end while it starts, which the flow sees itself,",
    event: exited("died"),
    from: "starting",
    to: "starting",
  },
  {
    title: "the end of a suspension",
    event: { type: "stop-finished", exit: { reason: "asked", atMs: 2 }, suspendedTo: snapshot },
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
    event: { type: "discarded", exit: { reason: "asked", atMs: 2 } },
    from: "suspended",
    to: "stopped",
  },
  {
    title: "a suspension of what went down meanwhile",
    event: { type: "stop-finished", exit: { reason: "asked", atMs: 2 }, suspendedTo: snapshot },
    from: "failed",
    to: "failed",
  },
  {
    title: "a start that is undone later",
    event: { type: "start-undone", back: STATES.suspended },
    from: "starting",
    to: "suspended",
  },
  { title: "a pause that comes too late", event: { type: "paused" }, from: "stopping", to: "stopping" },
];

function exited(reason: ExitReason): VmEvent {
  return { type: "vmm-exited", exit: { reason, atMs: 2 } };
}

for (const { title, event, from, to } of EVENTS) {
  test(`${title} takes a VM from ${from} to ${to}`, () => {
    assert.equal(decide(STATES[from], event).phase, to);
  });
}

test("a transition that is not in the table is refused", () => {
  assert.throws(() => moveTo(STATES.stopped, STATES.running), /never goes from stopped to running/);
  assert.throws(() => moveTo(STATES.created, STATES.stopping), /never goes from created to stopping/);
});

test("every action is possible in some phase and refused with a reason in the others", () => {
  for (const action of VM_ACTIONS) {
    const refused = VM_PHASES.filter((phase) => denial(action, phase, "web") !== undefined);
    assert.ok(refused.length < VM_PHASES.length, `${action} is possible somewhere`);
    for (const phase of refused)
      assert.match(denial(action, phase, "web") ?? "", /^Cannot .* web: it .*, and must be /);
  }
});

test("a refusal says what cannot be done to which VM, why, and when it could be", () => {
  assert.equal(denial("pause", "running", "web"), undefined);
  assert.equal(denial("pause", "stopped", "web"), "Cannot pause web: it is stopped, and must be running.");
  assert.equal(
    denial("exec", "created", "web"),
    "Cannot run a command in web: it has never been started, and must be running or suspended.",
  );
  assert.match(
    denial("snapshot", "suspended", "web") ?? "",
    /^Cannot create a snapshot of web: .*, and must be created, running, paused, stopped or failed\.$/,
  );
});

test("a VM stays failed until the rest of an earlier start or stop is undone or finished", () => {
  const unclean: VmState = { phase: "failed", code: "vm.unclean", message: "left", atMs: 1 };
  const undone = decide(unclean, { type: "start-undone", back: STATES.suspended });
  assert.deepEqual(moveTo(unclean, undone), STATES.suspended);
  const finished = decide(unclean, { type: "stop-finished", exit: { reason: "asked", atMs: 2 } });
  assert.equal(moveTo(unclean, finished).phase, "stopped");
  assert.equal(decide(STATES.failed, { type: "start-undone", back: STATES.suspended }), STATES.failed);
});
