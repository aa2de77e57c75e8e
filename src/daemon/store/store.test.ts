import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { openDatabase } from "#daemon/store/database.ts";
import { MIGRATIONS } from "#daemon/store/migrations.ts";
import { SnapshotRows } from "#daemon/store/snapshot-rows.ts";
import { openStore, Store } from "#daemon/store/store.ts";
import { FULL_ISOLATION } from "#model/isolation.ts";
import { parseSnapshotId, parseVmId, parseVmName, vmIdFrom } from "#model/ids.ts";
import { parseImageRef } from "#model/image-ref.ts";
import type { VmSpec } from "#model/vm-spec.ts";
import { FAKE_DIGEST } from "#testing/fake-host.ts";

const SPEC: VmSpec = {
  image: parseImageRef("debian"),
  cpus: 2,
  memoryBytes: 2 ** 31,
  diskBytes: 2 ** 33,
  volumes: [],
  network: "none",
  init: "agent",
  nested: false,
  isolation: FULL_ISOLATION,
  bootArgs: [],
  env: {},
  autoRemove: false,
};

function dir(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "hearth-store-"));
  t.after(() => rmSync(path, { recursive: true }));
  return path;
}

function newVm(name: string, index: number) {
  const id = vmIdFrom(new Uint8Array(12).fill(index));
  const state = { phase: "created" } as const;
  return { id, name: parseVmName(name), spec: SPEC, imageDigest: FAKE_DIGEST, state, ephemeral: false };
}

test("two VMs cannot have one name", (t) => {
  const store = new Store(join(dir(t), "hearth.db"));
  store.insertVm(newVm("web", 1));
  assert.throws(() => store.insertVm(newVm("web", 2)), { code: "name.taken" });
  assert.equal(store.listVms().length, 1);
  store.close();
});

test("a VM is the same after hearthd was restarted", (t) => {
  const path = join(dir(t), "hearth.db");
  const before = new Store(path);
  const vm = before.insertVm(newVm("web", 1));
  before.close();
  const after = new Store(path);
  assert.deepEqual(after.getVm("web"), vm);
  assert.deepEqual(after.getVm(vm.id), vm);
  after.close();
});

test("a reader's change of a record does not reach the store", (t) => {
  const store = new Store(join(dir(t), "hearth.db"));
  store.insertVm(newVm("web", 1));
  (store.getVm("web").spec.env as Record<string, string>)["EVIL"] = "1";
  assert.deepEqual(store.getVm("web").spec.env, {});
  store.close();
});

test("VMs are listed newest first", (t) => {
  let now = 1;
  const store = new Store(join(dir(t), "hearth.db"), () => now++);
  for (const [index, name] of ["one", "two", "three"].entries()) store.insertVm(newVm(name, index));
  assert.deepEqual(
    store.listVms().map((vm) => vm.name),
    ["three", "two", "one"],
  );
  store.close();
});

test("VMs with an idle timeout are listed without the others", (t) => {
  const store = new Store(join(dir(t), "hearth.db"));
  const vm = newVm("idle", 1);
  store.insertVm({ ...vm, spec: { ...SPEC, idleTimeoutMs: 60_000 } });
  store.insertVm(newVm("web", 2));
  store.insertVm({ ...newVm("env", 3), spec: { ...SPEC, env: { idleTimeoutMs: "no timeout" } } });
  assert.deepEqual(
    store.listVmsWithIdleTimeout().map(({ name }) => name),
    ["idle"],
  );
  store.close();
});

test("a VM that does not exist is named in the error", (t) => {
  const store = new Store(join(dir(t), "hearth.db"));
  assert.throws(() => store.getVm("nobody"), { code: "vm.not_found", message: /nobody/ });
  store.close();
});

test("no other program can open the store while hearthd has it, and so none can lock hearthd out", (t) => {
  const path = join(dir(t), "hearth.db");
  const store = new Store(path);
  store.insertVm(newVm("web", 1));
  using other = new DatabaseSync(path, { timeout: 0 });
  assert.throws(() => other.exec("BEGIN IMMEDIATE"), { errcode: 5 });
  store.insertVm(newVm("db", 2));
  store.close();
  other.exec("BEGIN IMMEDIATE"); // It would have got the lock.
});

test("hearthd waits for a program that has the store open, and does other things meanwhile", async (t) => {
  const path = join(dir(t), "hearth.db");
  new Store(path).close();
  const other = new DatabaseSync(path);
  other.exec("BEGIN IMMEDIATE");
  assert.throws(() => new Store(path), { code: "store.busy", hint: /fuser -v/ });
  await assert.rejects(openStore(path, 0), { code: "store.busy" });
  // Only reached if the event loop is not blocked.
  setTimeout(() => other.close(), 50);
  (await openStore(path, 60_000)).close();
});

test("a bug of Hearth's is called a bug, and not a corrupt store", (t) => {
  const store = new Store(join(dir(t), "hearth.db"));
  store.insertVm(newVm("web", 1));
  const bugs: Record<string, () => unknown> = {
    "a TypeError": () =>
      store.transaction(() => {
        throw new TypeError("x is not a function");
      }),
    "an id that is there already": () => store.insertVm(newVm("db", 1)),
  };
  for (const [what, bug] of Object.entries(bugs)) assert.throws(bug, { code: "internal.bug" }, what);
  store.close();
  assert.throws(() => store.getVm("web"), { code: "internal.bug" }, "a store that was closed");
});

test("a transaction in a transaction is part of it", (t) => {
  const store = new Store(join(dir(t), "hearth.db"));
  const both = (): void =>
    store.transaction(() => {
      store.transaction(() => store.insertVm(newVm("web", 1)));
      throw new Error("injected");
    });
  assert.throws(both);
  assert.deepEqual(store.listVms(), []);
  store.close();
});

test("a store whose pages are damaged is refused", (t) => {
  const path = join(dir(t), "hearth.db");
  const store = new Store(path);
  for (let index = 0; index < 30; index++) store.insertVm(newVm(`vm-${index}`, index));
  store.close();
  const bytes = readFileSync(path);
  writeFileSync(path, bytes.fill(0xff, 4096, 8192));
  assert.throws(() => new Store(path), { code: "store.corrupt" });
});

test("a corrupt database is refused with a fix that loses nothing, and left as it is", (t) => {
  const path = join(dir(t), "hearth.db");
  writeFileSync(path, "this is not a database, and longer than its header of a hundred bytes".repeat(10));
  const before = readFileSync(path);
  assert.throws(() => new Store(path), { code: "store.corrupt", hint: /system recover/ });
  assert.deepEqual(readFileSync(path), before);
});

test("a database of a newer Hearth is refused, and left as it is", (t) => {
  const path = join(dir(t), "hearth.db");
  const newer = new DatabaseSync(path);
  newer.exec(`PRAGMA user_version = ${MIGRATIONS.length + 1}`);
  newer.close();
  assert.throws(() => new Store(path), { code: "store.too_new", hint: /newer Hearth/ });
});

test("a migration that fails half way leaves the version before it whole", (t) => {
  const path = join(dir(t), "hearth.db");
  openDatabase(path, MIGRATIONS).close();
  const broken = [...MIGRATIONS, "CREATE TABLE half (a TEXT); SELECT no_such_function()"];
  assert.throws(() => openDatabase(path, broken));
  const again = openDatabase(path, [...MIGRATIONS, "CREATE TABLE half (a TEXT)"]);
  assert.equal(again.prepare("PRAGMA user_version").get()?.["user_version"], MIGRATIONS.length + 1);
  again.close();
});

test("the store is for its owner alone", (t) => {
  const path = join(dir(t), "hearth.db");
  new Store(path).close();
  assert.equal(statSync(path).mode & 0o777, 0o600);
});

test("ten thousand ids are all different and all ids", () => {
  const ids = new Set<string>();
  for (let index = 0; index < 10_000; index++)
    ids.add(parseVmId(vmIdFrom(crypto.getRandomValues(new Uint8Array(12)))));
  assert.equal(ids.size, 10_000);
});

test("a commit is on the disk when it returns", (t) => {
  using database = openDatabase(join(dir(t), "hearth.db"), MIGRATIONS);
  assert.deepEqual({ ...database.prepare("PRAGMA synchronous").get() }, { synchronous: 2 }, "FULL");
});

test("a commit that does not wait for the disk leaves the next ones waiting, also when it fails", (t) => {
  const store = new Store(join(dir(t), "hearth.db"));
  const level = (): unknown => store.statement("PRAGMA synchronous").get()?.["synchronous"];
  const levels: unknown[] = [];
  store.transaction(() => levels.push(level()), { synced: false });
  const fails = (): never => {
    throw new TypeError("no");
  };
  assert.throws(() => store.transaction(fails, { synced: false }));
  store.transaction(() => levels.push(level()));
  assert.deepEqual(levels, [1, 2], "NORMAL, then FULL");
  store.close();
});

/** The version of the schema before VMs had an owner, labels and a generation. */
const WITHOUT_OWNER = 4;

test("VMs of a store without owners are the local user's, without labels, and as they were", (t) => {
  const path = join(dir(t), "hearth.db");
  {
    using old = openDatabase(path, MIGRATIONS.slice(0, WITHOUT_OWNER));
    const insert = old.prepare(
      `INSERT INTO vms (id, name, spec, image_digest, state, bound, created_at_ms, updated_at_ms, last_used_at_ms,
         last_error) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    );
    const error = JSON.stringify({ code: "vm.gone", message: "It went.", atMs: 4 });
    for (const [name, index] of [["web", 1] as const, ["db", 2] as const]) {
      const { id, spec, imageDigest, state } = newVm(name, index);
      const texts = [JSON.stringify(spec), imageDigest, JSON.stringify(state)];
      insert.run(id, name, ...texts, index - 1, index, 2, 3, index === 1 ? error : null);
    }
    old.prepare("INSERT INTO flows VALUES ('f', 'stop', ?, '{}', 1)").run(newVm("web", 1).id);
    assert.throws(() => old.prepare("SELECT owner FROM vms"), /no such column/);
  }
  const store = new Store(path);
  t.after(() => store.close());
  const web = newVm("web", 1);
  const stored = store.getVm("web");
  assert.deepEqual(stored, {
    ...web,
    spec: stored.spec,
    owner: "local",
    labels: {},
    generation: 1,
    desired: "stopped",
    createdAtMs: 1,
    updatedAtMs: 2,
    lastUsedAtMs: 3,
    lastError: { code: "vm.gone", message: "It went.", atMs: 4 },
  });
  assert.deepEqual({ ...stored.spec }, { ...SPEC });
  assert.deepEqual(
    store.listVms().map(({ name }) => name),
    ["db", "web"],
  );
  assert.deepEqual(
    store.listEphemeral().map(({ name }) => name),
    ["db"],
  );
  assert.equal(store.statement("SELECT count(*) AS n FROM flows").get()?.["n"], 1, "journals stay");
  assert.throws(() => store.insertVm(newVm("web", 3)), { code: "name.taken" });
  const indexes = store
    .statement("SELECT name FROM sqlite_schema WHERE type = 'index' AND name LIKE 'vms%'")
    .all();
  assert.deepEqual(
    indexes.map(({ name }) => name),
    ["vms_by_age"],
  );
});

test("snapshots of a store without owners are the local user's, without labels, and their names are taken for one owner alone", (t) => {
  const path = join(dir(t), "hearth.db");
  {
    using old = openDatabase(path, MIGRATIONS.slice(0, WITHOUT_OWNER));
    const insert = old.prepare("INSERT INTO snapshots VALUES (?, 'named', ?, NULL, 1, ?, 1, 2)");
    for (const [id, name] of [["sn-aaaaaaaaaaaa", "before"] as const, ["sn-bbbbbbbbbbbb", null] as const])
      insert.run(id, name, JSON.stringify({ id, name: name ?? undefined, kind: "named", parts: [] }));
  }
  const store = new Store(path);
  t.after(() => store.close());
  const snapshots = new SnapshotRows(store);
  assert.equal(snapshots.list().length, 2);
  const { owner, labels, ready, lastUsedAtMs, id } = snapshots.get("before");
  assert.deepEqual([owner, labels, ready, lastUsedAtMs, id], ["local", {}, true, 2, "sn-aaaaaaaaaaaa"]);
  store.statement("UPDATE snapshots SET owner = 'somebody' WHERE name = 'before'").run();
  assert.equal(snapshots.find("before"), undefined);
  assert.equal(snapshots.find("sn-aaaaaaaaaaaa")?.owner, "somebody");
});

test("a name is taken for one owner alone", (t) => {
  const store = new Store(join(dir(t), "hearth.db"));
  t.after(() => store.close());
  store.insertVm(newVm("web", 1));
  store.statement("UPDATE vms SET owner = 'somebody'").run();
  assert.equal(store.findVm("web"), undefined);
  store.insertVm(newVm("web", 2));
  assert.throws(() => store.statement("UPDATE vms SET owner = 'somebody'").run(), /UNIQUE/);
});

test("the generation counts what a user changes, and not what hearthd does by itself", (t) => {
  const store = new Store(join(dir(t), "hearth.db"));
  t.after(() => store.close());
  const { id } = store.insertVm({ ...newVm("web", 1), labels: { team: "web" } });
  const generation = (): number => store.getVm(id).generation;
  store.setSpec(id, { ...SPEC, sourceSnapshot: parseSnapshotId("sn-aaaaaaaaaaaa") });
  store.setSpec(id, { ...SPEC, driver: undefined });
  store.setLabels(id, { team: "db" });
  store.setState(id, { phase: "starting", sinceMs: 1 });
  assert.equal(generation(), 1);
  store.setSpec(id, { ...SPEC, cpus: 4 });
  store.setSpec(id, { ...SPEC, cpus: 4 });
  assert.equal(generation(), 2);
  assert.deepEqual(store.getVm(id).labels, { team: "db" });
  store.claimVm(id, { name: parseVmName("mine"), labels: { a: "" }, spec: SPEC, ephemeral: false });
  assert.deepEqual([generation(), store.getVm("mine").labels], [1, { a: "" }], "another VM from there on");
});
