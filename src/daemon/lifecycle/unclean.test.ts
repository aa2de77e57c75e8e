/** Fails the recovery of a VM once: that is shown, delays no other VM, and is tried again. */
import assert from "node:assert/strict";
import { existsSync, rmSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { vmPaths } from "#daemon/store/paths.ts";
import { vmViews } from "#daemon/view/vm-view.ts";
import { parseSnapshotName } from "#model/ids.ts";
import { assertRuns } from "#testing/crash-story.ts";
import { FakeDaemon } from "#testing/fake-daemon.ts";
import { writtenOn } from "#testing/fake-guest.ts";
import { FakeMachine, journalled, LAYERED } from "#testing/fake-host.ts";
import type { FakeHostOptions } from "#testing/fake-host.ts";
import { Life } from "#testing/life.ts";

const NAME = parseSnapshotName("s1");
const STOP = { mode: "kill", timeoutMs: 0 } as const;

function setUp(t: TestContext) {
  const machine = new FakeMachine();
  let current: FakeDaemon | undefined;
  t.after(() => {
    close();
    machine[Symbol.dispose]();
  });
  const close = (): void => {
    current?.drop();
    current = undefined;
  };
  const open = (options: FakeHostOptions = {}): FakeDaemon => {
    close();
    return (current = new FakeDaemon(machine, options));
  };
  /** Kills hearthd after this effect of `act`. */
  const die = async (effect: string, act: (daemon: FakeDaemon) => Promise<unknown>, before = act) => {
    const life = new Life();
    const dying = await open({ life }).begin();
    if (before !== act) await before(dying);
    life.watchEffects((did) => did === effect);
    await Promise.race([act(dying).catch(() => {}), life.over]); // The error of the dead hearthd.
    assert.ok(life.isOver, effect);
  };
  return { machine, open, close, die };
}

/** Makes the removal of directories fail, until the returned function is called. */
function blockRemoval({ host }: FakeDaemon): () => void {
  const { removeTree } = host.files;
  host.files.removeTree = () => Promise.reject(new Error("EBUSY"));
  return () => void (host.files.removeTree = removeTree);
}

const creates = ({ vms }: FakeDaemon): Promise<unknown> =>
  vms.create({ name: "web", image: "debian" }, false, vms.background());
const starts = ({ vms }: FakeDaemon): Promise<unknown> => vms.start("web", vms.background());

test("a creation that cannot be undone is a failed VM, and gone when a later hearthd can", async (t) => {
  const { machine, open, die } = setUp(t);
  await die("disks.create", creates);
  for (const attempt of ["first", "second"]) {
    const daemon = open();
    blockRemoval(daemon);
    await daemon.begin();
    const { state } = daemon.host.store.getVm("web");
    assert.equal(state.phase, "failed", attempt);
    assert.match(state.message, /Cannot undo a create that failed: "make the directory" \(EBUSY\)/);
    assert.equal(daemon.host.journals.listOpen().length, 1, attempt);
  }
  const daemon = await open().begin();
  assert.deepEqual([daemon.host.store.listVms(), daemon.host.journals.listOpen()], [[], []]);
  assert.deepEqual(machine.leftovers(), []);
});

test("a start that cannot be undone is tried again by the next start, and the VM keeps its disk", async (t) => {
  const { machine, open, die } = setUp(t);
  await die(journalled("start", "boot", "done"), starts, async (daemon) => {
    await daemon.run("web", 2);
    await daemon.vms.stop("web", STOP, daemon.vms.background());
  });
  const daemon = open();
  const { vms, host } = daemon;
  const unblock = blockRemoval(daemon);
  await daemon.begin();
  assert.deepEqual(machine.vmms.running(), [], "all other undos have run");
  await assert.rejects(starts(daemon), {
    code: "vm.unclean",
    message: /acquire host resources/,
  });
  unblock();
  await starts(daemon);
  assert.equal(writtenOn(machine.vmm("web")), 2);
  assert.deepEqual(host.journals.listOpen(), []);
  await vms.remove("web", true, vms.background());
  assert.deepEqual(machine.leftovers(), []);
});

test("a VM whose resume cannot be undone keeps its memory until it can", async (t) => {
  const { machine, open, die } = setUp(t);
  const options = { features: LAYERED };
  const before = async (daemon: FakeDaemon): Promise<void> => {
    daemon.host.driver.description = { ...daemon.host.driver.description, ...LAYERED };
    await daemon.run("web", 2);
    await daemon.snapshots.suspend("web", daemon.vms.background());
  };
  await die("driver.restore", starts, before);
  const daemon = open(options);
  blockRemoval(daemon);
  await daemon.begin();
  assert.equal(daemon.host.store.getVm("web").state.phase, "failed");
  const next = await open(options).begin();
  assert.equal(next.host.store.getVm("web").state.phase, "suspended");
  await starts(next);
  assert.ok(machine.vmm("web").count >= 2, "it continues with what it had in memory");
});

test("an undo that fails at runtime is reported, and the VM can be removed all the same", async (t) => {
  const { machine, open } = setUp(t);
  const daemon = await open().begin();
  await creates(daemon);
  const unblock = blockRemoval(daemon);
  daemon.host.guestFaults.unreachable = 99;
  await assert.rejects(starts(daemon), { code: "vm.unclean" });
  assert.equal(daemon.host.store.getVm("web").state.phase, "failed");
  unblock();
  await daemon.vms.remove("web", false, daemon.vms.background());
  assert.deepEqual([daemon.host.journals.listOpen(), machine.leftovers()], [[], []]);
});

test("one VM that cannot be recovered is failed, and hearthd and the others keep working", async (t) => {
  const { machine, open, close } = setUp(t);
  const before = await open().begin();
  const ids = new Map<string, string>();
  for (const name of ["strange", "spoiled", "halved", "web"]) ids.set(name, (await before.run(name, 1)).id);
  close();
  const path = join(machine.dir, "hearth.db");
  {
    using store = new DatabaseSync(path);
    store
      .prepare("UPDATE vms SET state = json_set(state, '$.handle.driver', 'other') WHERE name = 'strange'")
      .run();
    store.prepare("UPDATE vms SET spec = '{' WHERE name = 'spoiled'").run();
    store.prepare("UPDATE vms SET state = 'nothing' WHERE name = 'halved'").run();
  }
  const daemon = open();
  await daemon.begin();
  const { host, vms } = daemon;
  await assertRuns(daemon, "web");
  const shown = await vmViews(host, vms, host.store.listVms());
  assert.deepEqual(shown.map(({ name, phase }) => `${name} ${phase}`).toSorted(), [
    "halved failed",
    "spoiled failed",
    "strange failed",
    "web running",
  ]);
  await assert.rejects(vms.start("spoiled", vms.background()), { code: "store.corrupt" });
  for (const name of ["strange", "halved"]) {
    await vms.start(name, vms.background());
    assert.equal(writtenOn(machine.vmm(name)), 1);
    assert.equal(machine.vmms.running().filter(({ plan }) => plan.name === name).length, 1);
  }
  await vms.remove("spoiled", true, vms.background());
});

for (const phase of ["stopped", "suspended"] as const) {
  test(`a ${phase} VM whose disk, or whole directory, is missing does not start, and --fresh begins anew`, async (t) => {
    const { machine, open } = setUp(t);
    const daemon = await open({ features: LAYERED }).begin();
    const { host, vms, snapshots } = daemon;
    const { id } = await daemon.run("web", 2);
    if (phase === "stopped") await vms.stop("web", STOP, vms.background());
    else await snapshots.suspend("web", vms.background());
    const { disk, stateDir } = vmPaths(host.dirs, id);
    for (const missing of [disk, stateDir]) {
      rmSync(missing, { recursive: true });
      const refused = { code: "disk.missing", message: new RegExp(disk), hint: /Mount|--fresh/ };
      await assert.rejects(starts(daemon), refused);
      assert.equal(existsSync(missing), false, "nothing was made in its place");
    }
    await vms.start("web", vms.background(), { fresh: true });
    assert.equal(writtenOn(machine.vmm("web")), 0);
  });
}

for (const [what, signal] of [
  ["fails", undefined],
  ["is cancelled", AbortSignal.abort(new Error("the user left"))],
] as const) {
  test(`a restore that ${what} twice before the disk is replaced is finished by the next start`, async (t) => {
    const { machine, open } = setUp(t);
    const daemon = await open({ features: LAYERED }).begin();
    const { host, vms, snapshots } = daemon;
    await daemon.run("web", 1);
    await snapshots.create("web", { kind: "named", name: NAME }, vms.background());
    daemon.work("web", 4);
    const cancel = new AbortController();
    host.helper.leaseUid = () => {
      cancel.abort(signal?.reason);
      throw new Error("All uids are in use.");
    };
    await assert.rejects(
      snapshots.restore(NAME, signal === undefined ? vms.background() : vms.background(cancel.signal)),
    );
    const { state, spec } = host.store.getVm("web");
    assert.equal(state.phase, "failed");
    assert.match(state.message, /restore of snapshot s1 did not finish/);
    assert.notEqual(spec.sourceSnapshot, undefined);
    await assert.rejects(starts(daemon));
    const next = await open({ features: LAYERED }).begin();
    await starts(next);
    assert.equal(writtenOn(machine.vmm("web")), 1, "as the snapshot has it");
    assert.equal(next.host.store.getVm("web").spec.sourceSnapshot, undefined);
  });
}

test("a VM starts although nothing can be written behind its commit", async (t) => {
  const { machine, open } = setUp(t);
  const daemon = await open().begin();
  await creates(daemon);
  const { journals, snapshots } = daemon.host;
  const { open: openJournal } = journals;
  const fail = (): never => {
    throw new Error("disk I/O error");
  };
  journals.open = (...args) => ({ ...openJournal.apply(journals, args), [Symbol.dispose]: fail });
  snapshots.touchIfThere = fail;
  await starts(daemon);
  journals.open = openJournal;
  assert.equal(daemon.host.store.getVm("web").state.phase, "running");
  const next = await open().begin();
  assert.equal(machine.vmms.running().length, 1);
  await assertRuns(next, "web");
});

test("a start first ends what an earlier one has left on the disk", async (t) => {
  const { machine, open, close } = setUp(t);
  const daemon = await open().begin();
  const { id } = await daemon.run("web", 1);
  close();
  {
    using store = new DatabaseSync(join(machine.dir, "hearth.db"));
    const state = { phase: "failed", code: "vm.gone", message: "It was said to be gone.", atMs: 1 };
    store.prepare("UPDATE vms SET state = ? WHERE id = ?").run(JSON.stringify(state), id);
  }
  const next = open();
  // Without `begin`, whose sweep would end the VMM: as if that had failed.
  await starts(next);
  assert.equal(machine.vmms.running().length, 1);
});
