import assert from "node:assert/strict";
import {
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import type { LostEntry } from "#api/wire.ts";
import { listLostFound, lostFoundDir } from "#daemon/lifecycle/lost-found.ts";
import { snapshotsDir, vmPaths, vmsDir } from "#daemon/store/paths.ts";
import { parseSnapshotName } from "#model/ids.ts";
import { localApi } from "#testing/local-api.ts";
import { daemonOver, FakeDaemon } from "#testing/fake-daemon.ts";
import { writtenOn } from "#testing/fake-guest.ts";
import { FakeMachine } from "#testing/fake-host.ts";

const STOP = { mode: "kill", timeoutMs: 0 } as const;

/** A machine, and hearthds on it, one after the other. */
function setUp(t: TestContext) {
  const machine = new FakeMachine();
  let current: FakeDaemon | undefined;
  t.after(() => {
    current?.drop();
    machine[Symbol.dispose]();
  });
  const end = (): void => {
    current?.drop();
    current = undefined;
  };
  const open = (): FakeDaemon => {
    end();
    return (current = new FakeDaemon(machine));
  };
  const begin = (): Promise<FakeDaemon> => open().begin();
  const loseStore = (): void => {
    end();
    for (const suffix of ["", "-wal", "-flows", "-reserve"])
      rmSync(join(machine.dir, `hearth.db${suffix}`), { force: true });
  };
  const api = (daemon: FakeDaemon) => localApi(daemonOver(daemon.host, daemon));
  return { machine, open, begin, end, loseStore, api };
}

test("with a new store, every VM and snapshot is in lost+found, and a disk can be recovered", async (t) => {
  const { machine, begin, loseStore, api } = setUp(t);
  const before = await begin();
  const { id } = await before.run("precious", 3);
  const { vms, snapshots } = before;
  const saved = await snapshots.create(
    "precious",
    { kind: "named", name: parseSnapshotName("s1") },
    vms.background(),
  );
  loseStore(); // Its VMM still runs.
  const daemon = await begin();
  const { host } = daemon;
  const found = await listLostFound(host);
  assert.deepEqual(
    found.map(({ kind, name, hasDisk }) => [kind, name, hasDisk]),
    [
      ["vms", id, true],
      ["snapshots", saved.id, false],
    ],
  );
  assert.equal(statSync(lostFoundDir(host.dirs)).mode & 0o777, 0o700);
  assert.deepEqual(machine.vmms.running(), [], "nobody writes to the disk any more");
  assert.equal(machine.events.filter(({ name }) => name === "lost.found").length, 2);

  const http = api(daemon);
  const listed = (await (await http.request("/v1/lost-found")).json()) as LostEntry[];
  assert.deepEqual(listed, found);
  const recover = (name: string) =>
    http.request(`/v1/lost-found/${id}/recover`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ name, image: "debian" }),
    });
  const answer = await recover("web");
  assert.equal(answer.status, 200, await answer.clone().text());
  assert.equal(((await answer.json()) as { phase: string }).phase, "stopped");
  await daemon.vms.start("web", daemon.vms.background());
  assert.equal(writtenOn(machine.vmm("web")), 3);
  const again = await recover("twin");
  assert.match(await again.text(), /disk\.missing/);
  assert.equal(host.store.findVm("twin"), undefined);
});

test("a disk that another VM has is not recovered, and neither is one that is a link", async (t) => {
  const { begin, loseStore, api } = setUp(t);
  const before = await begin();
  const vm = await before.run("web", 1);
  loseStore();
  const daemon = await begin();
  const [lost] = await listLostFound(daemon.host);
  assert.ok(lost);
  const disk = join(lost.path, "disk.raw");
  const recover = async () => {
    const answer = await api(daemon).request(`/v1/lost-found/${vm.id}/recover`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ name: "web", image: "debian" }),
    });
    return ((await answer.json()) as { error: { code: string } }).error.code;
  };
  linkSync(disk, join(daemon.host.dirs.state, "second"));
  assert.equal(await recover(), "file.refused");
  rmSync(disk);
  symlinkSync(join(daemon.host.dirs.state, "second"), disk);
  assert.equal(await recover(), "disk.corrupt");
  assert.deepEqual(daemon.host.store.listVms(), []);
});

test("two directories of one name are both kept, and a link is left alone", async (t) => {
  const { begin } = setUp(t);
  const { host } = await begin();
  const name = "vm-aaaaaaaaaaaa";
  for (const content of ["one", "two"]) {
    mkdirSync(join(vmsDir(host.dirs), name), { recursive: true });
    writeFileSync(join(vmsDir(host.dirs), name, "disk.raw"), content);
    await begin();
  }
  const contents = (await listLostFound(host)).map(({ path }) =>
    readFileSync(join(path, "disk.raw"), "utf8"),
  );
  assert.deepEqual(contents, ["one", "two"]);
});

test("a store from a backup undoes and removes nothing of what was made since", async (t) => {
  const { machine, open, begin, end } = setUp(t);
  const store = join(machine.dir, "hearth.db");
  const first = await begin();
  await first.run("old", 1);
  const call = first.vms.background();
  // The rows as they were when the backup was made: a creation and a first start under way, and a VM that is to be
  // removed.
  const { id: half } = await first.vms.create({ name: "half", image: "debian" }, false, call);
  const { id: rm } = await first.vms.create(
    { name: "temporary", image: "debian", autoRemove: true },
    true,
    call,
  );
  const journal = first.host.journals.open("op-0123456789ab" as never, "create", half, {});
  journal.write("reserve the name", "started");
  journal.write("make the directory", "started");
  end();
  const backup = readFileSync(store);
  // Since then they were used, and another VM was created.
  const second = open();
  second.host.store.transaction(() => second.host.journals.end("create", half));
  second.host.store.keepVm(rm);
  await second.begin();
  for (const name of ["half", "temporary"]) {
    await second.vms.start(name, second.vms.background());
    second.work(name, 2);
    if (name === "half") await second.vms.stop(name, STOP, second.vms.background());
  }
  const { id: made } = await second.run("new", 1);
  end();
  writeFileSync(store, backup);
  rmSync(`${store}-wal`, { force: true });

  const daemon = await begin();
  const { host, vms } = daemon;
  assert.deepEqual(
    host.store
      .listVms()
      .map(({ name }) => name)
      .toSorted(),
    ["half", "old", "temporary"],
  );
  assert.deepEqual(
    (await listLostFound(host)).map(({ name }) => name),
    [made],
  );
  for (const name of ["half", "temporary"]) {
    assert.ok(existsSync(vmPaths(host.dirs, host.store.getVm(name).id).disk), name);
    await vms.start(name, vms.background());
    assert.equal(writtenOn(machine.vmm(name)), 2, name);
  }
  // From now on it is the current store.
  await vms.create({ name: "later", image: "debian" }, true, vms.background());
  assert.equal((await begin()).host.store.isOlder, false);
  assert.deepEqual(await (await begin()).host.files.listDirs(snapshotsDir(host.dirs)), []);
});
