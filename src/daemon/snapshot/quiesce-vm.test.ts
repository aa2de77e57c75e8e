import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { errorChain, HearthError } from "#base/error.ts";
import { forkVm } from "#daemon/snapshot/fork-vm.ts";
import { snapshotPaths, snapshotsDir } from "#daemon/store/paths.ts";
import { parseSnapshotName } from "#model/ids.ts";
import { handleOf } from "#model/vm-state.ts";
import { assertRuns } from "#testing/crash-story.ts";
import { useFakeDaemon } from "#testing/fake-daemon.ts";
import type { FakeDaemon } from "#testing/fake-daemon.ts";
import { writtenOn } from "#testing/fake-guest.ts";
import { Gate } from "#testing/gate.ts";

const NAME = parseSnapshotName("s1");
const BROKEN = new Error("no such luck");

type Act = (daemon: FakeDaemon, signal?: AbortSignal) => Promise<unknown>;

function take(more: { readonly diskOnly?: boolean; readonly verify?: boolean }): Act {
  return ({ snapshots, vms }, signal = new AbortController().signal) =>
    snapshots.create("web", { kind: "named", name: NAME, ...more }, { ...vms.background(), signal });
}

/** The actions that save the VM `web`. */
const ACTS: Readonly<Record<string, Act>> = {
  "a snapshot": take({ verify: true }),
  "a snapshot of the disk alone": take({ diskOnly: true }),
  "a fork": (daemon, signal = new AbortController().signal) =>
    forkVm(daemon, "web", { count: 2 }, { ...daemon.vms.background(), signal }),
  "a suspension": ({ snapshots, vms }, signal = new AbortController().signal) =>
    snapshots.suspend("web", { ...vms.background(), signal }),
};
const WITH_MEMORY = ["a snapshot", "a fork", "a suspension"];

/** Faults: each makes the next call of something fail. */
const FAULTS: Readonly<Record<string, { spoil: (daemon: FakeDaemon) => void; of: readonly string[] }>> = {
  "the guest is not frozen": {
    spoil: ({ host }) => (host.guestFaults.freezeError = BROKEN),
    of: Object.keys(ACTS),
  },
  "the VMM does not save": { spoil: ({ host }) => (host.driver.faults.saveError = BROKEN), of: WITH_MEMORY },
  "the disk cannot be copied": {
    spoil: ({ host }) => spoilOnce(host.disks, "freeze"),
    of: ["a snapshot", "a snapshot of the disk alone", "a fork"],
  },
  "the layers cannot be finished": {
    spoil: ({ host }) => spoilOnce(host.disks, "finishLayers"),
    of: ["a snapshot", "a snapshot of the disk alone", "a fork"],
  },
  "no VMM takes what was saved": {
    spoil: ({ host }) => (host.driver.faults.finalizeError = BROKEN),
    of: WITH_MEMORY,
  },
  "what was saved cannot be sealed": {
    spoil: ({ host }) => spoilOnce(host.helper, "sealMemory"),
    of: WITH_MEMORY,
  },
  "it cannot be restored": {
    spoil: ({ host }) => (host.driver.faults.restoreError = BROKEN),
    of: ["a snapshot", "a fork"],
  },
  "a guest that was restored does not become another one": {
    spoil: ({ host }) => (host.guestFaults.configureError = BROKEN),
    of: ["a snapshot", "a fork"],
  },
  "a command in a guest that was restored fails": {
    spoil: ({ host }) => (host.guestFaults.exitCode = 1),
    of: ["a snapshot"],
  },
  "the disk is not suspended": {
    spoil: ({ host }) => spoilOnce(host.disks, "commitResumeOverlay"),
    of: ["a suspension"],
  },
};

/** Makes the next call of that method fail before it does anything. */
function spoilOnce<Part extends object>(part: Part, method: keyof Part): void {
  const real = part[method];
  const spoiled = (): never => {
    Object.assign(part, { [method]: real });
    throw BROKEN;
  };
  Object.assign(part, { [method]: spoiled });
}

/** Checks that a failed save has changed nothing: the VM runs on, nothing is left, and a save is possible again. */
async function assertUntouched(daemon: FakeDaemon, phase: "running" | "paused"): Promise<void> {
  const { host, vms } = daemon;
  assert.equal(host.store.getVm("web").state.phase, phase);
  assert.deepEqual(
    host.store.listVms().map(({ name }) => name),
    ["web"],
  );
  assert.deepEqual(
    host.machine.vmms.running().map((vmm) => vmm.phase),
    [phase],
  );
  assert.deepEqual(host.snapshots.list(), []);
  assert.deepEqual(await host.files.listDirs(snapshotsDir(host.dirs)), []);
  if (phase === "paused") await vms.resume("web", vms.background());
  await assertRuns(daemon, "web");
  assert.equal(writtenOn(host.machine.vmm("web")), 2);
}

for (const phase of ["running", "paused"] as const) {
  for (const [what, act] of Object.entries(ACTS)) {
    describe(`${what} of a VM that is ${phase}`, () => {
      for (const [why, { spoil, of }] of Object.entries(FAULTS)) {
        if (!of.includes(what)) continue;
        // Nothing of a paused guest is flushed, so its agent is not asked.
        if (phase === "paused" && what.endsWith("alone") && why.startsWith("the guest")) continue;
        test(`leaves it as it was, and nothing else, when ${why}`, async (t) => {
          const daemon = await useFakeDaemon(t);
          await daemon.run("web", 2);
          if (phase === "paused") await daemon.vms.pause("web", daemon.vms.background());
          spoil(daemon);
          await assert.rejects(act(daemon));
          await assertUntouched(daemon, phase);
          await act(daemon);
        });
      }
    });
  }
}

for (const [what, act] of Object.entries(ACTS)) {
  if (!WITH_MEMORY.includes(what)) continue;
  for (const step of ["save", "finalize"] as const) {
    test(`${what} that is cancelled leaves the VM as it was: at its ${step}`, async (t) => {
      const daemon = await useFakeDaemon(t);
      await daemon.run("web", 2);
      const gate = new Gate();
      daemon.host.driver.faults[`${step}Gate`] = gate;
      const cancel = new AbortController();
      const acting = assert.rejects(act(daemon, cancel.signal), { code: "operation.cancelled" });
      await gate.reached;
      cancel.abort(new HearthError("operation.cancelled", "Nobody wants it."));
      await acting;
      await assertUntouched(daemon, "running");
    });

    test(`a forced removal while ${what} is at its ${step} leaves nothing`, async (t) => {
      const daemon = await useFakeDaemon(t);
      const { host, vms } = daemon;
      await daemon.run("web");
      const gate = new Gate();
      host.driver.faults[`${step}Gate`] = gate;
      const acting = Promise.allSettled([act(daemon)]);
      await gate.reached;
      const removed = vms.remove("web", true, vms.background());
      gate.open();
      await Promise.all([removed, acting]);
      for (const { id } of host.store.listVms()) await vms.remove(id, true, vms.background());
      for (const { id } of host.snapshots.list()) await daemon.snapshots.remove(id);
      assert.deepEqual(host.machine.leftovers(), []);
    });
  }
}

test("a snapshot contains frozen processes, and a restored guest gets its identity before they run", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms, snapshots } = daemon;
  await daemon.run("web");
  const { id } = await snapshots.create("web", { kind: "named", name: NAME }, vms.background());
  const { memory } = snapshotPaths(host.dirs, id);
  const { kept } = JSON.parse(readFileSync(memory, "utf8")) as { kept: { guest: { frozen: boolean } } };
  assert.equal(kept.guest.frozen, true);
  assert.deepEqual(host.machine.vmm("web").guest.calls, ["configure", "freeze", "thaw"]);
  await daemon.run("copy", 0, { snapshot: NAME });
  await assertRuns(daemon, "copy");
  assert.deepEqual(host.machine.vmm("copy").guest.calls, ["configure restored", "exec true"]);
});

test("an agent behind a vsock device, which a save resets, answers afterwards", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms } = daemon;
  host.driver.vsock = true;
  await daemon.run("web");
  await take({})(daemon);
  await assertRuns(daemon, "web");
  await vms.pause("web", vms.background());
  await daemon.snapshots.suspend("web", vms.background());
  await vms.start("web", vms.background());
  await assertRuns(daemon, "web");
});

for (const [what, phase] of [
  ["a suspension", "running"],
  ["a snapshot of the disk alone", "running"],
  ["a snapshot", "paused"],
] as const) {
  test(`${what} of a ${phase} VM that fails says why, also when its VM cannot be resumed after it`, async (t) => {
    const daemon = await useFakeDaemon(t);
    const { host, vms } = daemon;
    await daemon.run("web");
    if (phase === "paused") await vms.pause("web", vms.background());
    host.guestFaults.freezeError = BROKEN;
    const { resume } = host.driver;
    host.driver.resume = async (...args) => {
      if (host.guestFaults.freezeError === undefined) throw new Error("The monitor is closed.");
      await resume.apply(host.driver, args);
    };
    const error: unknown = await ACTS[what]?.(daemon).catch((thrown: unknown) => thrown);
    assert.match(errorChain(error), /no such luck.*The monitor is closed/s);
    host.driver.resume = resume;
    await vms.remove("web", true, vms.background());
    assert.deepEqual(host.machine.leftovers(), []);
  });
}

test("files are flushed for a snapshot of the disk alone, and not where the memory has them", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host } = daemon;
  await daemon.run("web");
  await take({ diskOnly: true })(daemon);
  assert.deepEqual(host.machine.vmm("web").guest.calls, ["configure", "freeze flush", "thaw"]);
  await daemon.snapshots.remove(NAME);
  await take({})(daemon);
  assert.deepEqual(host.machine.vmm("web").guest.calls.slice(3), ["freeze", "thaw"]);
});

test("a VM whose VMM dies during its suspend has failed, and its memory is not kept", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, snapshots, vms } = daemon;
  const vm = await daemon.run("web", 1);
  const handle = handleOf(vm.state);
  assert.ok(handle);
  const gate = new Gate();
  host.driver.faults.finalizeGate = gate;
  const suspending = assert.rejects(snapshots.suspend("web", vms.background()), { code: "vm.gone" });
  await gate.reached;
  host.driver.crash(handle);
  gate.open();
  await suspending;
  assert.equal(host.store.getVm("web").state.phase, "failed");
  assert.deepEqual(host.snapshots.list(), []);
  await vms.start("web", vms.background());
  assert.equal(writtenOn(host.machine.vmm("web")), 1);
});

test("a VM is busy while it is saved, and not while its snapshot is verified", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms } = daemon;
  await daemon.run("web");
  const [save, finalize] = [new Gate(), new Gate()];
  Object.assign(host.driver.faults, { saveGate: save, finalizeGate: finalize });
  const taking = take({})(daemon);
  await save.reached;
  const call = vms.background();
  await assert.rejects(vms.pause("web", call), { code: "vm.busy", message: /snapshot is in progress/ });
  save.open();
  await finalize.reached;
  await vms.pause("web", call);
  finalize.open();
  await taking;
  assert.equal(host.store.getVm("web").state.phase, "paused");
});
