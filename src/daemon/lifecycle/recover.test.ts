import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { snapshotPaths, snapshotsDir } from "#daemon/store/paths.ts";
import { parseSnapshotName } from "#model/ids.ts";
import { assertRuns } from "#testing/crash-story.ts";
import { FakeDaemon } from "#testing/fake-daemon.ts";
import { writtenOn } from "#testing/fake-guest.ts";
import { FakeMachine } from "#testing/fake-host.ts";
import type { FakeHostOptions } from "#testing/fake-host.ts";
import { Life } from "#testing/life.ts";

/** A machine, and hearthds on it, one after the other. */
function setUp(t: TestContext) {
  const machine = new FakeMachine();
  const daemons: FakeDaemon[] = [];
  t.after(async () => {
    for (const daemon of daemons) daemon.drop();
    machine[Symbol.dispose]();
  });
  const open = (options: FakeHostOptions = {}): FakeDaemon => {
    daemons.pop()?.drop();
    const daemon = new FakeDaemon(machine, options);
    daemons.push(daemon);
    return daemon;
  };
  return { machine, open };
}

function leftOver(machine: FakeMachine): number {
  return machine.events.filter(({ name }) => name === "clean.left_over").length;
}

test("a VM whose start an older hearthd lost the journal of keeps its disk, whatever templates there are", async (t) => {
  const { open } = setUp(t);
  const config = "warm.enabled = true";
  const before = await open({ config }).begin();
  const vm = await before.run("web", 2);
  await before.templates.build(vm, before.vms.background());
  await before.vms.stop("web", { mode: "kill", timeoutMs: 0 }, before.vms.background());
  before.host.store.setState(vm.id, { phase: "starting", sinceMs: 1 });
  const daemon = await open({ config }).begin();
  assert.equal(daemon.host.store.getVm("web").state.phase, "stopped");
  await daemon.vms.start("web", daemon.vms.background());
  assert.equal(writtenOn(daemon.host.machine.vmm("web")), 2);
});

test("a VM that cannot be removed keeps neither hearthd from starting nor the others from being removed", async (t) => {
  const { machine, open } = setUp(t);
  const before = await open().begin();
  const request = { image: "debian", autoRemove: true };
  for (const name of ["stuck", "other"])
    await before.vms.create({ ...request, name }, true, before.vms.background());
  await before.run("web");
  const daemon = open();
  const { helper, store } = daemon.host;
  const { removeJail } = helper;
  const { id } = store.getVm("stuck");
  helper.removeJail = async (vm) => {
    if (vm === id) throw new Error("it is busy");
    await removeJail(vm);
  };
  await daemon.begin();
  assert.deepEqual(
    store
      .listVms()
      .map(({ name }) => name)
      .toSorted(),
    ["stuck", "web"],
  );
  assert.equal(leftOver(machine), 1);
  await assertRuns(daemon, "web");
  helper.removeJail = removeJail;
  await daemon.vms.remove("stuck", true, daemon.vms.background());
});

test("a snapshot whose removal had begun is removed at the next start; one that cannot be is logged, and delays no other", async (t) => {
  const { machine, open } = setUp(t);
  const before = await open().begin();
  const { host, snapshots, vms } = before;
  await before.run("web", 1);
  const take = async (name: string) =>
    (await snapshots.create("web", { kind: "named", name: parseSnapshotName(name) }, vms.background())).id;
  const ids = [await take("stuck"), await take("half"), await take("whole")] as const;
  for (const id of ids.slice(0, 2)) host.snapshots.unlist(id); // Their removal had begun.
  mkdirSync(join(snapshotsDir(host.dirs), "sn-nobodysatall"));
  const daemon = open();
  const { removeTree } = daemon.host.files;
  daemon.host.files.removeTree = async (root, path) => {
    if (path === snapshotPaths(host.dirs, ids[0]).dir) throw new Error("it is busy");
    await removeTree(root, path);
  };
  await daemon.begin();
  assert.deepEqual(
    daemon.host.snapshots
      .list()
      .map(({ id }) => id)
      .toSorted(),
    [ids[0], ids[2]].toSorted(),
  );
  assert.deepEqual(
    (await daemon.host.files.listDirs(snapshotsDir(host.dirs))).toSorted(),
    [ids[0], ids[2]].toSorted(),
  );
  assert.equal(leftOver(machine), 1);
  assert.equal(daemon.host.snapshots.get("whole").ready, true);
  assert.throws(() => daemon.host.snapshots.get("stuck"), { code: "snapshot.not_found" });
});

test("a VM whose suspend was interrupted is resumed, also when its agent does not answer", async (t) => {
  const { machine, open } = setUp(t);
  const life = new Life();
  const dying = await open({ life }).begin();
  await dying.run("web", 1);
  life.watchEffects((effect) => effect === "snapshots.setReady");
  const { snapshots, vms } = dying;
  const suspended = snapshots.suspend("web", vms.background()).catch(() => {}); // Of being dead.
  await Promise.race([suspended, life.over]);
  assert.deepEqual([machine.vmm("web").phase, machine.vmm("web").guest.frozen], ["paused", true]);
  const daemon = open();
  daemon.host.guestFaults.unreachable = 1;
  await daemon.begin();
  assert.equal(machine.vmm("web").phase, "running", "its agent thaws it by itself");
  assert.equal(daemon.host.store.getVm("web").state.phase, "running");
  assert.deepEqual(daemon.host.snapshots.list(), []);
});
