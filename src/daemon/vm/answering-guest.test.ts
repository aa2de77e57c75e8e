import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { TestContext } from "node:test";
import { SILENT } from "#base/log.ts";
import { AGENT_PATIENCE, watchGuest } from "#daemon/vm/answering-guest.ts";
import type { AgentPatience, GuestWatch } from "#daemon/vm/answering-guest.ts";
import { Attachment } from "#daemon/vm/attachment.ts";
import { runInGuest } from "#daemon/vm/run-in-guest.ts";
import type { Guest } from "#daemon/host.ts";
import type { VmDriver } from "#drivers/vm-driver.ts";
import { reachAgent } from "#guest/wait-for-agent.ts";
import { parseSnapshotName } from "#model/ids.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import { FakeDaemon, useFakeDaemon } from "#testing/fake-daemon.ts";
import { untilAborted } from "#testing/guest-command.ts";
import { FakeMachine } from "#testing/fake-host.ts";
import { startScriptedAgent } from "#testing/scripted-agent.ts";

const UNREACHABLE = { code: "agent.unreachable" };
/** Short limits, for agents that answer at once or never. */
const SHORT: AgentPatience = { connectMs: 100, answerMs: 50, probeEveryMs: 5, probeMs: 50, startMs: 10_000 };
const never = new AbortController().signal;

async function useImpatientDaemon(t: TestContext, config?: string): Promise<FakeDaemon> {
  const daemon = await useFakeDaemon(t, config === undefined ? {} : { config });
  Object.assign(daemon.host.patience, SHORT);
  return daemon;
}

async function exec({ vms }: FakeDaemon, name = "web"): Promise<number | undefined> {
  const { guest } = await vms.guest(name, "exec", never);
  return runInGuest(guest, ["true"], { signal: never });
}

describe("an agent that does not answer any more", { timeout: 30_000 }, () => {
  const ACTS: Readonly<Record<string, (daemon: FakeDaemon) => Promise<unknown>>> = {
    "a command": (daemon) => exec(daemon),
    "a copy from the guest": async ({ vms }) => {
      const { guest } = await vms.guest("web", "copy", never);
      await guest.readTar("/etc", never).next();
    },
    "a copy to the guest": async ({ vms }) => {
      const { guest } = await vms.guest("web", "copy", never);
      await guest.writeTar({ path: "/etc", createParents: false }, (async function* () {})(), never);
    },
    "a list of ports": async ({ vms }) => {
      const { guest } = await vms.guest("web", "exec", never);
      await guest.listPorts(never);
    },
  };

  for (const [what, act] of Object.entries(ACTS)) {
    test(`ends ${what} with agent.unreachable, and the next one gets a new connection`, async (t) => {
      const daemon = await useImpatientDaemon(t);
      await daemon.run("web");
      daemon.host.machine.vmm("web").tars.set("/etc", new Uint8Array(1));
      await act(daemon);
      daemon.host.guestFaults.silent = "connection";
      await assert.rejects(act(daemon), UNREACHABLE);
      await act(daemon);
    });
  }

  test("ends every command with agent.unreachable when it does not answer on a new connection either", async (t) => {
    const daemon = await useImpatientDaemon(t);
    await daemon.run("web");
    daemon.host.guestFaults.silent = "guest";
    for (let time = 0; time < 2; time += 1) await assert.rejects(exec(daemon), UNREACHABLE);
    delete daemon.host.guestFaults.silent;
    assert.equal(await exec(daemon), 0, "it answers again");
  });

  test("does not keep a VM from being resumed, and is reached anew after that", async (t) => {
    const daemon = await useImpatientDaemon(t);
    const { host, vms } = daemon;
    await daemon.run("web");
    await vms.pause("web", vms.background());
    host.guestFaults.silent = "connection";
    assert.equal((await vms.resume("web", vms.background())).state.phase, "running");
    assert.equal(host.machine.vmm("web").guest.calls.at(-1), "thaw", "it was told the time");
    assert.equal(await exec(daemon), 0);
  });

  for (const diskOnly of [true, false]) {
    const what = diskOnly ? "a snapshot of the disk alone" : "a snapshot";
    test(`does not keep ${what} from ending, and is reached anew after that`, async (t) => {
      const daemon = await useImpatientDaemon(t);
      const { host, vms, snapshots } = daemon;
      await daemon.run("web");
      const freeze = host.disks.freeze.bind(host.disks);
      Object.assign(host.disks, {
        freeze: (...args: Parameters<typeof freeze>) => {
          host.guestFaults.silent = "connection";
          return freeze(...args);
        },
      });
      const plan = { kind: "named", name: parseSnapshotName("s1"), diskOnly } as const;
      await snapshots.create("web", plan, vms.background());
      assert.equal(host.store.getVm("web").state.phase, "running");
      assert.equal(await exec(daemon), 0);
    });
  }

  test("is asked over a new connection to shut down, so that nothing is lost by a stop", async (t) => {
    const daemon = await useImpatientDaemon(t);
    const { host, vms } = daemon;
    const { id } = await daemon.run("web");
    host.guestFaults.silent = "connection";
    const { state } = await vms.stop(id, { mode: "graceful", timeoutMs: 300 }, vms.background());
    assert.equal(state.phase === "stopped" && state.exit.code, 0, "the guest has powered itself off");
    assert.deepEqual(host.driver.calls, ["boot web"], "and was not ended by a signal");
  });

  test("does not keep its VM from being stopped", async (t) => {
    const daemon = await useImpatientDaemon(t);
    const { host, vms } = daemon;
    await daemon.run("web");
    host.guestFaults.silent = "guest";
    await vms.stop("web", { mode: "graceful", timeoutMs: 300 }, vms.background());
    assert.equal(host.driver.calls.at(-1), "stop terminate");
  });

  test("is waited for by the stop of a hearthd that has not found it yet", async (t) => {
    const machine = new FakeMachine();
    t.after(() => machine[Symbol.dispose]());
    const first = await new FakeDaemon(machine).begin();
    await first.run("web");
    first.drop();
    const next = new FakeDaemon(machine);
    t.after(() => next.end());
    next.host.guestFaults.unreachable = 1;
    await next.begin();
    const { id } = next.host.store.getVm("web");
    assert.equal(next.vms.connected(id)?.connectedGuest, undefined, "it is not found yet");
    const plan = { mode: "graceful", timeoutMs: 10_000 } as const;
    const { state } = await next.vms.stop(id, plan, next.vms.background());
    assert.equal(state.phase === "stopped" && state.exit.code, 0, "the guest has powered itself off");
  });

  test("does not delay a request for a VM of its pool", async (t) => {
    const config = '[pool.web]\nimage = "debian"\ncount = 1\n';
    const daemon = await useImpatientDaemon(t, config);
    const { host, pools, vms } = daemon;
    pools.fill();
    await pools.idle();
    assert.equal(pools.ready("web"), 1);
    const waited = host.store.listVms().find(({ state }) => state.phase === "paused");
    assert.ok(waited);
    host.guestFaults.silent = "guest";
    assert.equal(await pools.take({ image: "debian" }, false, vms.background()), undefined);
    assert.equal(host.store.findVm(waited.id), undefined, "it is discarded");
  });
});

describe("an agent that answers", { timeout: 30_000 }, () => {
  test("and never starts a command is told so in bounded time, and its connection stays", async (t) => {
    const daemon = await useImpatientDaemon(t);
    Object.assign(daemon.host.patience, { startMs: 30 });
    const { id } = await daemon.run("web");
    const before = daemon.vms.connected(id)?.connectedGuest;
    daemon.host.guestFaults.neverStarts = true;
    await assert.rejects(exec(daemon), UNREACHABLE);
    assert.equal(daemon.vms.connected(id)?.connectedGuest, before);
  });

  test("is not probed any more when a command has started, however long it is silent", async () => {
    const { watch, seen } = watchOf({ info: () => Promise.reject(new Error("It is busy.")) });
    const looks = Promise.withResolvers<void>();
    const guest = watchGuest({
      ...watch,
      guest: {
        ...watch.guest,
        exec: async function* () {
          yield { type: "started", pid: 7 };
          await looks.promise;
          yield { type: "exited", code: 3, timedOut: false };
        },
      },
    });
    const events = guest.exec({ argv: [], env: {}, stdin: false, detach: false }, { id: "a" }, never);
    assert.deepEqual((await events.next()).value, { type: "started", pid: 7 });
    const last = events.next();
    await new Promise((resolve) => setTimeout(resolve, 10 * SHORT.probeEveryMs));
    assert.deepEqual(seen, { looks: 0, silent: 0 });
    looks.resolve();
    assert.deepEqual((await last).value, { type: "exited", code: 3, timedOut: false });
    assert.equal((await events.next()).done, true);
  });

  test("is waited for while it cannot answer, and its silence until then does not count", async () => {
    const { watch, seen } = watchOf({ info: untilAborted });
    const start = Promise.withResolvers<void>();
    let asked = 0;
    const expected = (): boolean => {
      asked += 1;
      if (asked === 20) start.resolve();
      return asked < 2; // One probe is not answered, and then the VM is paused.
    };
    const guest = watchGuest({
      ...watch,
      expected,
      guest: {
        ...watch.guest,
        readTar: async function* () {
          await start.promise;
          yield new Uint8Array(3);
        },
      },
    });
    assert.equal((await guest.readTar("/", never).next()).value?.length, 3);
    assert.deepEqual(seen, { looks: 1, silent: 0 });
  });

  test("is probed once for all that wait for it", async () => {
    const { watch, seen } = watchOf({
      info: () => ANSWERED,
      readTar: async function* (_path, signal) {
        await untilAborted(signal);
        yield new Uint8Array();
      },
    });
    const guest = watchGuest({ ...watch, patience: { ...SHORT, probeEveryMs: 100, startMs: 300 } });
    const waiting = Array.from({ length: 20 }, () =>
      assert.rejects(guest.readTar("/", never).next(), UNREACHABLE),
    );
    await Promise.all(waiting);
    assert.ok(seen.looks < 20, `${seen.looks} looks`);
    assert.equal(seen.silent, 0);
  });

  test("is unreachable after the second unanswered probe in a row, and not after one", async () => {
    const { watch, seen } = watchOf({
      // Every second probe is answered, until the sixth.
      info: (signal) => (seen.looks % 2 === 0 && seen.looks < 6 ? ANSWERED : untilAborted(signal)),
      exec: async function* (_spec, _io, signal) {
        await untilAborted(signal);
        yield { type: "started", pid: 1 };
      },
    });
    const events = watchGuest({ ...watch, patience: { ...SHORT, probeMs: 10 } }).exec(
      { argv: [], env: {}, stdin: false, detach: false },
      { id: "a" },
      never,
    );
    await assert.rejects(events.next(), UNREACHABLE);
    assert.deepEqual(seen, { looks: 6, silent: 1 });
  });
});

const ANSWERED = Promise.resolve({ execs: 0 } as Awaited<ReturnType<Guest["info"]>>);

/** Returns a guest with these methods, and what its watch has seen. */
function watchOf(does: Partial<Guest>) {
  const seen = { looks: 0, silent: 0 };
  const { info } = does;
  const guest = {
    ...does,
    info: (signal: AbortSignal) => ((seen.looks += 1), info?.(signal)),
  } as Guest;
  const onSilent = (): void => void (seen.silent += 1);
  const watch: GuestWatch = { guest, patience: SHORT, expected: () => true, onSilent };
  return { watch, seen };
}

describe("over a real connection", { timeout: 30_000 }, () => {
  const HANGS = () => new Promise<never>(() => {});

  test("a call and a command that are not answered end, and each closes the connection that it waited on", async (t) => {
    const dir = mkdtempSync(join(tmpdir(), "hearth-agent-"));
    t.after(() => rmSync(dir, { recursive: true }));
    const socketPath = join(dir, "agent.sock");
    await using agent = await startScriptedAgent(socketPath, {
      answers: {
        info: HANGS,
        thaw: HANGS,
        exec: async function* () {
          await HANGS();
          yield {};
        },
      },
    });
    const guests = {
      patience: { ...SHORT, connectMs: 5_000, answerMs: 300 }, // The connection is a part of it.
      waitFor: (address: { agentSocket: string }, deadlineMs: number, signal: AbortSignal) =>
        reachAgent(address, { deadlineMs }, signal),
    };
    const driver = { watch() {} } as unknown as VmDriver;
    const attachment = new Attachment(
      driver,
      { agentSocket: socketPath } as VmHandle,
      guests,
      { exited() {}, silent() {}, status() {} },
      SILENT,
    );
    t.after(() => attachment.detach());
    await assert.rejects(
      attachment.ask((guest, inTime) => guest.thaw(1, inTime), never),
      UNREACHABLE,
    );
    const guest = await attachment.watchedGuest(() => true, never);
    await assert.rejects(runInGuest(guest, ["true"], { signal: never }), UNREACHABLE);
    await attachment.guest(never);
    // At least one for the call, one for the command, and the current one.
    const [last, ...before] = agent.connections.toReversed();
    assert.ok(before.length >= 2, `${before.length}`);
    for (const socket of before) if (!socket.destroyed) await once(socket, "close");
    assert.equal(last?.destroyed, false);
  });

  test("hearthd's patience with a frozen guest is longer than the guest stays frozen by itself", () => {
    assert.ok(AGENT_PATIENCE.startMs > 30_000);
  });
});
