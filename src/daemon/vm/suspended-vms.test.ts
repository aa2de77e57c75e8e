import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { HearthError } from "#base/error.ts";
import { vmPaths } from "#daemon/store/paths.ts";
import { assertRuns } from "#testing/crash-story.ts";
import { useFakeDaemon } from "#testing/fake-daemon.ts";
import type { FakeDaemon } from "#testing/fake-daemon.ts";
import { readFakeDisk } from "#testing/fake-disks.ts";
import { letWork, writtenOn } from "#testing/fake-guest.ts";
import { LAYERED } from "#testing/fake-host.ts";
import { Gate } from "#testing/gate.ts";

const STOP = { mode: "graceful", timeoutMs: 1_000 } as const;

/** Has `web` write twice, and suspends it. */
async function sleeps(daemon: FakeDaemon) {
  const { host, vms, snapshots } = daemon;
  await daemon.run("web", 2);
  await snapshots.suspend("web", vms.background());
  host.driver.calls.length = 0;
  const { signal } = new AbortController();
  return { ...daemon, host, vms, snapshots, call: vms.background(), signal };
}

function restores({ host }: FakeDaemon): number {
  return host.driver.calls.filter((call) => call.startsWith("restore")).length;
}

test("a suspended VM has no VMM and no host resources, resumes where it was, and its memory file is deleted then", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms, call } = await sleeps(daemon);
  assert.deepEqual(host.machine.vmms.running(), []);
  assert.deepEqual(host.machine.isolation.leftovers(), []);
  assert.equal(host.store.getVm("web").state.phase, "suspended");
  assert.equal((await vms.resume("web", call)).state.phase, "running");
  assert.deepEqual([host.machine.vmm("web").count, writtenOn(host.machine.vmm("web"))], [2, 2]);
  await assertRuns(daemon, "web");
  assert.deepEqual(host.snapshots.list(), []);
  await vms.remove("web", true, call);
  assert.deepEqual(host.machine.leftovers(), []);
});

test("20 commands at once resume a VM once; later ones wait for that resume, and so does a second resume", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms, signal } = await sleeps(daemon);
  const gate = new Gate();
  host.driver.faults.restoreGate = gate;
  const asks = (): Promise<unknown> => vms.guest("web", "exec", signal);
  const early = Array.from({ length: 20 }, asks);
  await gate.reached;
  const late = Array.from({ length: 20 }, asks);
  await assert.rejects(vms.pause("web", vms.background()), { code: "vm.wrong_phase" });
  gate.open();
  await Promise.all([...early, ...late]);
  assert.equal(restores(daemon), 1);
  await assertRuns(daemon, "web");
});

test("a command for a VM that is being suspended waits for that, and resumes it", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms, snapshots } = daemon;
  await daemon.run("web", 1);
  const gate = new Gate();
  host.driver.faults.saveGate = gate;
  const suspended = snapshots.suspend("web", vms.background());
  await gate.reached;
  const asked = vms.guest("web", "exec", new AbortController().signal);
  gate.open();
  await suspended;
  await asked;
  assert.equal(restores(daemon), 1);
  await assertRuns(daemon, "web");
});

test("a command whose client leaves does not keep the VM of others from being resumed", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms, signal } = await sleeps(daemon);
  const gate = new Gate();
  host.driver.faults.restoreGate = gate;
  const leaves = new AbortController();
  const left = assert.rejects(vms.guest("web", "exec", leaves.signal));
  const stays = vms.guest("web", "exec", signal);
  await gate.reached;
  leaves.abort();
  await left;
  gate.open();
  await stays;
  assert.equal(restores(daemon), 1);
});

test("a VM that could not be resumed is tried again by the next request", async (t) => {
  const daemon = await useFakeDaemon(t, { features: LAYERED });
  const { host, vms, signal } = await sleeps(daemon);
  host.driver.faults.restoreError = new Error("no such luck");
  await assert.rejects(vms.guest("web", "exec", signal));
  assert.equal(host.store.getVm("web").state.phase, "suspended");
  await vms.guest("web", "exec", signal);
  assert.deepEqual([host.machine.vmm("web").count, writtenOn(host.machine.vmm("web"))], [2, 2]);
});

test("stopping a suspended VM changes nothing, however often", async (t) => {
  const { host, vms, call } = await sleeps(await useFakeDaemon(t));
  const before = host.store.getVm("web").state;
  for (let times = 0; times < 2; times++) assert.deepEqual((await vms.stop("web", STOP, call)).state, before);
  assert.equal(host.snapshots.list().length, 1);
});

test("killing a suspended VM deletes its memory and keeps its disk", async (t) => {
  const { host, vms, call } = await sleeps(await useFakeDaemon(t));
  assert.equal((await vms.kill("web", "kill", call)).state.phase, "stopped");
  assert.deepEqual(host.snapshots.list(), []);
  await vms.start("web", call);
  assert.deepEqual(host.driver.calls, ["boot web"]);
  assert.deepEqual([host.machine.vmm("web").count, writtenOn(host.machine.vmm("web"))], [0, 2]);
});

test("removing a suspended VM deletes its memory", async (t) => {
  const { host, vms, call } = await sleeps(await useFakeDaemon(t));
  await vms.remove("web", false, call);
  assert.deepEqual(host.snapshots.list(), []);
  assert.deepEqual(host.machine.leftovers(), []);
});

describe("start --fresh of a suspended VM", () => {
  test("deletes its memory and its disk", async (t) => {
    const { host, vms, call } = await sleeps(await useFakeDaemon(t));
    await vms.start("web", call, { fresh: true });
    assert.deepEqual(host.driver.calls, ["boot web"]);
    assert.deepEqual([host.machine.vmm("web").count, writtenOn(host.machine.vmm("web"))], [0, 0]);
    assert.deepEqual(host.snapshots.list(), []);
  });

  test("never resumes it with another disk when it fails", async (t) => {
    const { host, vms, call } = await sleeps(await useFakeDaemon(t, { features: LAYERED }));
    const { giveFiles } = host.helper;
    // Its disk is a new one by then, and nothing has run.
    host.helper.giveFiles = () => {
      host.helper.giveFiles = giveFiles;
      throw new Error("no such luck");
    };
    await assert.rejects(vms.start("web", call, { fresh: true }));
    assert.equal(host.store.getVm("web").state.phase, "failed");
    assert.deepEqual(host.snapshots.list(), []);
    await vms.start("web", call);
    assert.equal(writtenOn(host.machine.vmm("web")), 0);
  });
});

for (const [format, features] of [
  ["one file", undefined],
  ["layers", LAYERED],
] as const) {
  describe(`a VM with a disk in ${format} that cannot be resumed`, () => {
    const REFUSED = new HearthError("snapshot.failed", "The VMM does not take it.");

    test("stays suspended when nothing of it has run", async (t) => {
      const daemon = await useFakeDaemon(t, { features: features ?? {} });
      const { host, vms, call } = await sleeps(daemon);
      host.driver.faults.restoreError = REFUSED;
      await assert.rejects(vms.start("web", call), { code: "snapshot.failed" });
      host.driver.description = {
        ...host.driver.description,
        available: { ok: false, reason: "", hint: "" },
      };
      await assert.rejects(vms.start("web", call), { code: "vmm.missing" });
      host.driver.description = { ...host.driver.description, available: { ok: true } };
      assert.equal(host.store.getVm("web").state.phase, "suspended");
      assert.deepEqual(host.machine.vmms.running(), []);
      await vms.start("web", call);
      assert.equal(host.machine.vmm("web").count, 2);
    });

    test("is never resumed with a memory that does not match its disk, also when its client has left", async (t) => {
      const daemon = await useFakeDaemon(t, { features: features ?? {} });
      const { host, vms, call } = await sleeps(daemon);
      const cancel = new AbortController();
      const waitFor = host.guests.waitFor.bind(host.guests);
      host.guests.waitFor = (address, deadlineMs, signal) => {
        letWork(host.machine.vmm("web"), "the kernel");
        cancel.abort(new HearthError("operation.cancelled", "Nobody wants it."));
        host.guests.waitFor = waitFor;
        return waitFor(address, deadlineMs, signal);
      };
      await assert.rejects(vms.start("web", { ...call, signal: cancel.signal }));
      const { state } = host.store.getVm("web");
      assert.equal(state.phase, features === undefined ? "failed" : "suspended");
      assert.equal(host.snapshots.list().length, features === undefined ? 0 : 1);
      await vms.start("web", call);
      await assertRuns(daemon, "web");
    });
  });
}

test("a VM that is removed when it ends is not removed when it is suspended", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms, snapshots } = daemon;
  await daemon.run("web", 1, { image: "debian", autoRemove: true });
  await snapshots.suspend("web", vms.background());
  const { id, state } = host.store.getVm("web");
  assert.equal(state.phase, "suspended");
  assert.equal(readFakeDisk(vmPaths(host.dirs, id).disk)?.written, 1);
  await vms.start("web", vms.background());
  assert.equal(host.machine.vmm("web").count, 1);
});

test("a VM can be suspended and resumed any number of times, and nothing adds up", async (t) => {
  const daemon = await useFakeDaemon(t, { features: LAYERED });
  const { host, vms, snapshots } = daemon;
  await daemon.run("web");
  const found: string[][] = [];
  for (let times = 1; times <= 5; times++) {
    daemon.work("web");
    await snapshots.suspend("web", vms.background());
    await vms.start("web", vms.background());
    assert.deepEqual([host.machine.vmm("web").count, writtenOn(host.machine.vmm("web"))], [times, times]);
    found.push(host.machine.leftovers().map((path) => path.replace(/VMM \d+|uid \d+/, "")));
  }
  assert.deepEqual(found.at(-1), found[0]);
});

test("a VM whose VMM does not end when it is to be suspended runs on, and its memory file is deleted", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms, snapshots } = daemon;
  await daemon.run("web", 1);
  host.driver.faults.stopError = new Error("no such luck");
  await assert.rejects(snapshots.suspend("web", vms.background()));
  assert.equal(host.store.getVm("web").state.phase, "running");
  await assertRuns(daemon, "web");
  assert.deepEqual([host.snapshots.list(), host.journals.listOpen()], [[], []]);
  await vms.kill("web", "kill", vms.background());
  assert.equal(host.store.getVm("web").state.phase, "stopped");
  assert.deepEqual(host.snapshots.list(), []);
  await vms.start("web", vms.background());
  assert.equal(writtenOn(host.machine.vmm("web")), 1);
});
