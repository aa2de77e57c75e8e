/** The behaviour that all drivers' sessions share, with a real process and a fake VMM connection. */
import { END_WITH_OWN_RIGHTS } from "#drivers/end-vmm.ts";
import assert from "node:assert/strict";
import { appendFileSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import type { VmmStatus, VmmWatcher } from "#drivers/vm-driver.ts";
import { VmmSession } from "#drivers/vmm-session.ts";
import type { GuestEnd, SessionRecorder } from "#drivers/vmm-session.ts";
import { VmmSessions } from "#drivers/vmm-sessions.ts";
import { waitForEnd } from "#host/process-end.ts";
import { findProcess, isAlive, signalProcess } from "#host/procfs.ts";
import { startDetached } from "#host/run.ts";
import type { ProcessId, VmExit, VmHandle } from "#model/vm-handle.ts";

const never = new AbortController().signal;
const HEARTBEAT_MS = 20;
const timing = { heartbeatMs: HEARTBEAT_MS, answerDeadlineMs: 60_000, startDeadlineMs: 60_000 };

class PlainSession extends VmmSession {
  answer: () => Promise<VmmStatus | undefined> = () => Promise.resolve("running");
  opened = 0;
  guestEnd: GuestEnd;
  readonly recording = Promise.withResolvers<SessionRecorder>();
  readonly consoleClosed = Promise.withResolvers<void>();

  protected override ask(): Promise<VmmStatus | undefined> {
    return this.answer();
  }
  protected override openRecorder(): Promise<SessionRecorder> {
    this.opened += 1;
    return this.recording.promise;
  }
  protected override readEnd(): GuestEnd {
    return this.guestEnd;
  }
  protected override async removeFiles(): Promise<void> {
    rmSync(this.handle.consoleSocket);
  }
  protected override disconnect(): void {}

  startRecorder(): void {
    this.recording.resolve({ ended: this.consoleClosed.promise, stop: this.consoleClosed.resolve });
  }
}

async function sleeper(t: TestContext, dir: string): Promise<ProcessId> {
  const logFile = join(dir, "sleep.log");
  const pid = await startDetached("sleep", ["600"], { cwd: "/", logFile, onExit: () => {} });
  const found = findProcess(pid) ?? assert.fail("it runs");
  t.after(() => signalProcess(found, "SIGKILL"));
  return found;
}

async function open(t: TestContext, helperCount = 0) {
  const dir = mkdtempSync(join(tmpdir(), "vmm-session-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const vmm = await sleeper(t, dir);
  const helpers: ProcessId[] = [];
  for (let count = 0; count < helperCount; count += 1) helpers.push(await sleeper(t, dir));
  const handle: VmHandle = {
    driver: "plain",
    accel: "tcg",
    processes: [vmm, ...helpers],
    stateDir: dir,
    agentSocket: join(dir, "agent.sock"),
    monitorSocket: join(dir, "monitor.sock"),
    consoleSocket: join(dir, "console.sock"),
  };
  writeFileSync(handle.consoleSocket, "");
  const onTrouble = (_: string, error: unknown): never => assert.fail(String(error));
  const sessions = new VmmSessions({
    driver: "plain",
    endVmm: END_WITH_OWN_RIGHTS,
    onTrouble,
    open: (one, life) => new PlainSession(one, { ...life, timing, logMaxBytes: 1_000 }),
  });
  return { sessions, session: sessions.of(handle), handle, vmm, helpers };
}

/** A watcher, and the ends and statuses that it was told. */
function follower() {
  const told = Promise.withResolvers<VmExit>();
  const exits: VmExit[] = [];
  const statuses: VmmStatus[] = [];
  const watcher: VmmWatcher = {
    exited: (exit) => {
      exits.push(exit);
      told.resolve(exit);
    },
    silent: () => {},
    status: (status) => void statuses.push(status),
  };
  return { watcher, told: told.promise, exits, statuses };
}

test("the end of a VMM is reported once, after its files are removed, however many notice it", async (t) => {
  const { sessions, session, handle, vmm } = await open(t);
  session.startRecorder();
  const { watcher, told, exits } = follower();
  session.watch(watcher, never);
  await session.record(false, never);
  signalProcess(vmm, "SIGKILL");
  session.consoleClosed.resolve();
  const [{ reason }] = await Promise.all([told, session.finish(), session.finish()]);
  assert.equal(reason, "died");
  assert.equal(existsSync(handle.consoleSocket), false);
  assert.equal(exits.length, 1);
  assert.notEqual(sessions.of(handle), session, "the next caller gets a new session");
});

for (const [guestEnd, lastEvents, reason] of [
  ["off", "Kernel panic - not syncing: a lie", "guest"],
  ["reset", "reboot: Restarting system", "rebooted"],
  ["reset", "Kernel panic - not syncing: no init", "panicked"],
  ["reset", "Kernel panic - not syncing: a lie\r\n[ 2.0] reboot: Restarting system", "rebooted"],
  ["reset", "Kernel panic - not syncing: a lie\r\n[ 2.0] sysrq: Resetting", "rebooted"],
  ["reset", "", "rebooted"],
  ["off or reset", "reboot: Restarting system", "guest"],
  ["off or reset", "Kernel panic - not syncing: no init", "panicked"],
  [undefined, "Kernel panic - not syncing: no init", "died"],
] as const) {
  test(`the end ${guestEnd ?? "undefined"} after the console text "${lastEvents}" has the reason ${reason}`, async (t) => {
    const { session, handle, vmm } = await open(t);
    writeFileSync(join(handle.stateDir, "console.log"), lastEvents);
    session.guestEnd = guestEnd;
    signalProcess(vmm, "SIGKILL");
    assert.equal((await session.finish()).reason, reason);
  });
}

test("a panic of an earlier boot is not taken for one of this boot", async (t) => {
  const { session, handle, vmm } = await open(t);
  const log = join(handle.stateDir, "console.log");
  writeFileSync(log, "Kernel panic - not syncing: no init\n");
  session.startRecorder();
  await session.record(false, never);
  session.guestEnd = "reset";
  appendFileSync(log, "a guest that says little\n");
  signalProcess(vmm, "SIGKILL");
  session.consoleClosed.resolve();
  assert.equal((await session.finish()).reason, "rebooted");
});

test("a VMM that ends after an abandoned stop is reported as stopped on request", async (t) => {
  const { session, vmm } = await open(t);
  session.startRecorder();
  const { watcher, told, statuses } = follower();
  session.watch(watcher, never);
  session.markAsked();
  await session.quiet();
  const before = statuses.length;
  signalProcess(vmm, "SIGKILL");
  session.consoleClosed.resolve();
  assert.equal((await told).reason, "asked");
  assert.equal(statuses.length, before, "no heartbeat after the stop");
});

test("each heartbeat reports the VMM's status of its vCPUs", async (t) => {
  const { session } = await open(t);
  session.startRecorder();
  session.answer = () => Promise.resolve("broken");
  const { watcher, statuses } = follower();
  const twice = Promise.withResolvers<void>();
  const status = (said: VmmStatus): void => {
    statuses.push(said);
    if (statuses.length === 2) twice.resolve();
  };
  session.watch({ ...watcher, status }, never);
  await twice.promise;
  assert.deepEqual(statuses.slice(0, 2), ["broken", "broken"]);
  session.release();
});

test("stopping waits a short time for an outstanding heartbeat", async (t) => {
  const { sessions, session, handle } = await open(t);
  session.startRecorder();
  session.answer = () => new Promise(() => {});
  session.watch(follower().watcher, never);
  assert.equal((await sessions.stop(handle, 60_000, never)).reason, "asked");
});

test("a watch that ends late does not end the watch that replaced it", async (t) => {
  const { session, vmm } = await open(t);
  session.startRecorder();
  const leaving = new AbortController();
  const first = follower();
  session.watch(first.watcher, leaving.signal);
  const second = follower();
  session.watch(second.watcher, never);
  leaving.abort();
  signalProcess(vmm, "SIGKILL");
  session.consoleClosed.resolve();
  assert.equal((await second.told).reason, "died");
  assert.deepEqual(first.exits, []);
});

test("the helpers of a VMM end with it: by itself, stopped, or found ended after a restart", async (t) => {
  const ends: Readonly<Record<string, (vm: Awaited<ReturnType<typeof open>>) => Promise<unknown>>> = {
    "by itself": ({ session, vmm }) => {
      signalProcess(vmm, "SIGKILL");
      return session.finish();
    },
    stopped: ({ sessions, handle }) => sessions.stop(handle, 0, never),
    "found ended": async ({ sessions, handle, vmm, helpers }) => {
      assert.equal(await sessions.recover(handle), true);
      assert.ok(helpers.every(isAlive), "they are left alone while it runs");
      signalProcess(vmm, "SIGKILL");
      assert.equal(await waitForEnd(vmm, 60_000, never), true);
      assert.equal(await sessions.recover(handle), false);
    },
  };
  for (const [how, end] of Object.entries(ends)) {
    const vm = await open(t, 2);
    assert.ok(vm.helpers.every(isAlive), how);
    await end(vm);
    assert.ok(!vm.helpers.some(isAlive), how);
  }
});

test("callers of record share one recorder, and one that is aborted does not end the wait of the others", async (t) => {
  const { session } = await open(t);
  const leaves = new AbortController();
  const first = session.record(false, leaves.signal);
  const second = session.record(false, never);
  leaves.abort(new Error("Ctrl-C"));
  await assert.rejects(first, /Ctrl-C/);
  session.startRecorder();
  assert.ok(await second);
  assert.equal(session.opened, 1);
});

test("a recorder that opens after the session was released is stopped", async (t) => {
  const { session } = await open(t);
  const recording = session.record(false, never);
  session.release();
  session.startRecorder();
  await recording;
  await session.consoleClosed.promise;
});
