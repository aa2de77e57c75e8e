import assert from "node:assert/strict";
import { chmodSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { forkVm } from "#daemon/snapshot/fork-vm.ts";
import { snapshotPaths } from "#daemon/store/paths.ts";
import { parseSnapshotName, parseVolumeName } from "#model/ids.ts";
import type { SnapshotId } from "#model/ids.ts";
import { assertRuns } from "#testing/crash-story.ts";
import { useFakeDaemon } from "#testing/fake-daemon.ts";
import type { FakeDaemon } from "#testing/fake-daemon.ts";
import { writtenOn } from "#testing/fake-guest.ts";

const NAME = parseSnapshotName("s1");
const STOP = { mode: "kill", timeoutMs: 0 } as const;

/** Makes a snapshot of a running `web` that has written once, and has it write twice more. */
async function saved(t: TestContext, diskOnly = false) {
  const daemon = await useFakeDaemon(t);
  const { snapshots, vms, host } = daemon;
  await daemon.run("web", 1);
  const snapshot = await snapshots.create("web", { kind: "named", name: NAME, diskOnly }, vms.background());
  daemon.work("web", 2);
  host.driver.calls.length = 0;
  return { daemon, host, vms, snapshots, snapshot, call: vms.background() };
}

test("a VM made from a snapshot runs from that moment, with its sizes, and the source is not affected", async (t) => {
  const { daemon, host, snapshot } = await saved(t);
  assert.equal(snapshot.ready, true);
  await daemon.run("copy", 0, { snapshot: NAME });
  const copy = host.machine.vmm("copy");
  assert.deepEqual([copy.count, writtenOn(copy)], [1, 1]);
  assert.deepEqual(host.driver.calls, ["restore copy"]);
  assert.equal(host.store.getVm("copy").spec.sourceSnapshot, undefined, "what it came from is history");
  daemon.work("copy");
  assert.equal(writtenOn(host.machine.vmm("web")), 3);
  await assertRuns(daemon, "copy");
  await assertRuns(daemon, "web");
});

test("a restored guest that does not answer is restored once more, and not a third time", async (t) => {
  const { daemon, host, vms, call } = await saved(t);
  host.guestFaults.unreachable = 1;
  await daemon.run("copy", 0, { snapshot: NAME });
  assert.deepEqual(host.driver.calls, ["restore copy", "stop kill", "restore copy"]);
  assert.equal(writtenOn(host.machine.vmm("copy")), 1);
  await assertRuns(daemon, "copy");
  const running = host.machine.vmms.running().length;
  host.guestFaults.unreachable = 2;
  await vms.create({ name: "other", snapshot: NAME }, false, call);
  await assert.rejects(vms.start("other", call), { code: "agent.unreachable" });
  assert.equal(host.machine.vmms.running().length, running);
});

test("--cold takes the disk of a snapshot and not its memory; after its first run the VM is suspended and resumed like any other", async (t) => {
  const { daemon, host, vms, snapshots, call } = await saved(t);
  await daemon.run("copy", 0, { snapshot: NAME, cold: true });
  assert.deepEqual(host.driver.calls, ["boot copy"]);
  assert.equal(writtenOn(host.machine.vmm("copy")), 1);
  daemon.work("copy");
  await snapshots.suspend("copy", call);
  await vms.start("copy", call);
  assert.deepEqual(host.driver.calls.at(-1), "restore copy");
  assert.equal(host.machine.vmm("copy").count, 1, "it has its memory");
});

test("fields that a snapshot's memory depends on cannot be chosen", async (t) => {
  const { vms, call } = await saved(t);
  for (const more of [{ cpus: 4 }, { image: "debian" }, { memoryBytes: 2 ** 30 }, { volumes: [] }])
    await assert.rejects(vms.create({ name: "copy", snapshot: NAME, ...more }, false, call), {
      code: "input.invalid",
    });
  await assert.rejects(vms.create({ name: "copy", snapshot: "other" }, false, call), {
    code: "snapshot.not_found",
  });
});

test("a snapshot that VMs map or are to start from is not removed, and the error names them; afterwards it is", async (t) => {
  const { daemon, host, vms, snapshots, call } = await saved(t);
  await daemon.run("maps", 0, { snapshot: NAME });
  await vms.create({ name: "begins", snapshot: NAME }, false, call);
  const refused = { code: "snapshot.in_use", message: /maps/, hint: /hearth stop/ } as const;
  await assert.rejects(snapshots.remove(NAME), { ...refused, message: /begins, maps|maps, begins/ });
  await vms.remove("begins", false, call);
  await assert.rejects(snapshots.remove(NAME), refused);
  await vms.pause("maps", call);
  await assert.rejects(snapshots.remove(NAME), refused);
  await vms.stop("maps", STOP, call);
  await snapshots.remove(NAME);
  assert.deepEqual(host.snapshots.list(), []);
  await vms.start("maps", call);
  assert.equal(writtenOn(host.machine.vmm("maps")), 1, "its disk is its own");
  await assert.rejects(snapshots.remove(NAME), { code: "snapshot.not_found" });
});

test("a name is taken while its snapshot exists, and free afterwards", async (t) => {
  const { vms, snapshots, snapshot, host, call } = await saved(t);
  const again = () => snapshots.create("web", { kind: "named", name: NAME }, call);
  await assert.rejects(again(), { code: "name.taken" });
  assert.deepEqual(host.snapshots.get(NAME).id, snapshot.id, "the other one is as it was");
  await snapshots.remove(NAME);
  await again();
  await vms.remove("web", true, call);
  await assert.rejects(snapshots.restore(NAME, call), { code: "vm.not_found", hint: /--snapshot s1/ });
});

test("the memory of a suspended VM is no user's snapshot: it cannot be removed, restored or started from", async (t) => {
  const { vms, snapshots, host, call } = await saved(t);
  const { state } = await snapshots.suspend("web", call);
  assert.ok(state.phase === "suspended");
  const missing = { code: "snapshot.not_found" };
  await assert.rejects(snapshots.remove(state.snapshot), missing);
  await assert.rejects(snapshots.restore(state.snapshot, call), missing);
  await assert.rejects(vms.create({ name: "copy", snapshot: state.snapshot }, false, call), missing);
  assert.deepEqual(
    snapshots.usersOf({ id: state.snapshot }).map(({ name }) => name),
    ["web"],
  );
  await vms.start("web", call);
  assert.equal(host.machine.vmm("web").count, 3);
});

type Damage = (path: string) => void;
const DAMAGE: Readonly<Record<string, Damage>> = {
  "has a byte that changed": (path) => {
    const bytes = readFileSync(path);
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    writeFileSync(path, bytes);
  },
  "is too short": (path) => truncateSync(path, 10),
  "is empty": (path) => truncateSync(path, 0),
  "is gone": (path) => rmSync(path),
};

for (const part of ["memory", "state"] as const) {
  for (const [what, damage] of Object.entries(DAMAGE)) {
    test(`a snapshot whose ${part} ${what} starts nothing and ends nothing, and the error says that it is damaged`, async (t) => {
      const { daemon, host, vms, snapshots, snapshot, call } = await saved(t);
      await vms.create({ name: "copy", snapshot: NAME }, false, call);
      spoil(daemon, snapshot.id, part, damage);
      const corrupt = {
        code: "snapshot.corrupt",
        message: /s1 is damaged/,
        hint: /create another snapshot/,
      } as const;
      await assert.rejects(vms.start("copy", call), corrupt);
      await assert.rejects(snapshots.restore(NAME, call), corrupt);
      assert.deepEqual(host.driver.calls, []);
      assert.equal(host.store.getVm("copy").state.phase, "failed");
      await assertRuns(daemon, "web");
      await vms.remove("copy", false, call);
      await snapshots.remove(NAME);
      await vms.remove("web", true, call);
      assert.deepEqual(host.machine.leftovers(), []);
    });
  }
}

function spoil({ host }: FakeDaemon, id: SnapshotId, part: "memory" | "state", damage: Damage): void {
  const path = snapshotPaths(host.dirs, id)[part];
  chmodSync(path, 0o600);
  damage(path);
}

test("a restore that fails is an error, starts nothing, and can be tried again", async (t) => {
  const { daemon, host, vms, call } = await saved(t);
  await vms.create({ name: "copy", snapshot: NAME }, false, call);
  host.driver.faults.restoreError = new Error("no such luck");
  await assert.rejects(vms.start("copy", call));
  assert.equal(host.machine.vmms.running().length, 1, "nothing was booted in its place");
  assert.equal(host.store.getVm("copy").state.phase, "failed");
  await vms.start("copy", call);
  await assertRuns(daemon, "copy");
  assert.equal(host.machine.vmm("copy").count, 1);
});

for (const how of ["memory and disk", "the disk"] as const) {
  for (const before of ["runs", "is paused", "has stopped", "sleeps"] as const) {
    test(`a VM that ${before} is restored from ${how} of a snapshot, which stays`, async (t) => {
      const { host, vms, snapshots, call } = await saved(t, how === "the disk");
      if (before === "is paused") await vms.pause("web", call);
      if (before === "has stopped") await vms.stop("web", STOP, call);
      if (before === "sleeps") await snapshots.suspend("web", call);
      const { state } = await snapshots.restore(NAME, call);
      const hadVmm = before === "runs" || before === "is paused";
      assert.equal(state.phase, how === "the disk" && !hadVmm ? "stopped" : "running");
      if (state.phase === "stopped") await vms.start("web", call);
      const vmm = host.machine.vmm("web");
      assert.deepEqual([vmm.count, writtenOn(vmm)], [how === "the disk" ? 0 : 1, 1]);
      assert.deepEqual(
        host.snapshots.list().map(({ name }) => name),
        [NAME],
        "and no memory of one that slept",
      );
    });
  }
}

test("a restored VM has the snapshot's sizes, and keeps what its memory does not depend on", async (t) => {
  const { host, vms, snapshots, call } = await saved(t);
  const before = host.store.getVm("web").spec;
  await vms.stop("web", STOP, call);
  await vms.set("web", { cpus: 4, diskBytes: before.diskBytes * 2 }, call);
  await snapshots.restore(NAME, call);
  assert.deepEqual(host.store.getVm("web").spec, { ...before, driver: "fake" });
});

test("a restore that fails leaves the disk of the snapshot or the old one, and never an empty one", async (t) => {
  const { host, vms, snapshots, call } = await saved(t);
  host.driver.faults.restoreError = new Error("no such luck");
  await assert.rejects(snapshots.restore(NAME, call));
  assert.equal(host.store.getVm("web").state.phase, "failed");
  await vms.start("web", call);
  assert.equal(writtenOn(host.machine.vmm("web")), 1);
  const { fromSnapshot } = host.disks;
  Object.assign(host.disks, {
    fromSnapshot: async (_snapshot: string, dir: string) => {
      await host.disks.remove(dir);
      throw new Error("the disk is full");
    },
  });
  await assert.rejects(snapshots.restore(NAME, call));
  Object.assign(host.disks, { fromSnapshot });
  await vms.start("web", call);
  assert.equal(writtenOn(host.machine.vmm("web")), 1);
});

test("VMs with volumes can be saved without their memory only", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms, snapshots } = daemon;
  await host.volumes.cleanUp();
  await host.volumes.create({ name: parseVolumeName("data"), sizeBytes: 2 ** 26 }, t.signal);
  await daemon.run("web", 1, { image: "debian", volumes: [{ name: "data", path: "/data" }] });
  const call = vms.background();
  const refused = { code: "feature.missing", message: /volumes \(data\)/ };
  await assert.rejects(snapshots.create("web", { kind: "named", name: NAME }, call), refused);
  await assert.rejects(snapshots.suspend("web", call), refused);
  await snapshots.create("web", { kind: "named", name: NAME, diskOnly: true }, call);
});

test("a driver that cannot save says why, and its VMs' disks are saved all the same", async (t) => {
  const snapshotsRefused = "This fake is too old.";
  const daemon = await useFakeDaemon(t, { features: { snapshots: undefined, snapshotsRefused } });
  const { vms, snapshots } = daemon;
  await daemon.run("web", 1);
  const call = vms.background();
  const refused = { code: "feature.missing", hint: snapshotsRefused };
  await assert.rejects(snapshots.create("web", { kind: "named", name: NAME }, call), refused);
  await assert.rejects(snapshots.suspend("web", call), refused);
  await snapshots.create("web", { kind: "named", name: NAME, diskOnly: true }, call);
  await daemon.run("copy", 0, { snapshot: NAME });
  await assertRuns(daemon, "copy");
});

test("a VM is not saved where its memory has no room: it is not even paused, and its disk alone is", async (t) => {
  const { host, vms, snapshots, call } = await saved(t);
  host.machine.freeBytes = 1;
  const leftovers = host.machine.leftovers();
  const full = { code: "host.disk_full" };
  await assert.rejects(snapshots.create("web", { kind: "named" }, call), full);
  await assert.rejects(snapshots.suspend("web", call), full);
  await assert.rejects(forkVm({ host, vms, snapshots }, "web", { count: 1 }, call), full);
  assert.deepEqual(host.driver.calls, []);
  assert.equal(host.machine.vmm("web").phase, "running");
  assert.deepEqual(host.machine.leftovers(), leftovers);
  await snapshots.create("web", { kind: "named", diskOnly: true }, call);
});
