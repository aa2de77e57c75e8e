import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { UidLeases } from "#helper/uid-leases.ts";
import { listUids } from "#host/procfs.ts";
import { startDetached } from "#host/run.ts";
import { parseVmId } from "#model/ids.ts";

const [A, B, C] = ["vm-aaaaaaaaaaaa", "vm-bbbbbbbbbbbb", "vm-cccccccccccc"].map(parseVmId) as [
  never,
  never,
  never,
];
const RANGE = { first: 1_990_000_000, count: 2 };

function makePlace(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), "hearth-uids-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const stateOf = (name: string): string => {
    mkdirSync(join(folder, "vms", name), { recursive: true });
    return join(folder, "vms", name);
  };
  return { folder: join(folder, "uids"), stateOf };
}

test("a VM keeps its uid, two never share one, and one that was given back can be had again", (t) => {
  const { folder, stateOf } = makePlace(t);
  const ours = new UidLeases(folder, RANGE);
  const theirs = new UidLeases(folder, RANGE); // Another hearthd.
  assert.equal(ours.take(A, stateOf("a")), RANGE.first);
  assert.equal(ours.take(A, stateOf("a")), RANGE.first);
  assert.equal(theirs.take(B, stateOf("b")), RANGE.first + 1);
  ours.release(A, stateOf("a"));
  ours.release(A, stateOf("a"));
  assert.equal(theirs.take(C, stateOf("c")), RANGE.first);
});

test("the same id with another state folder is another VM", (t) => {
  const { folder, stateOf } = makePlace(t);
  const leases = new UidLeases(folder, RANGE);
  assert.notEqual(leases.take(A, stateOf("a")), leases.take(A, stateOf("other")));
});

test("when all are in use, that is said with the key that gives more", (t) => {
  const { folder, stateOf } = makePlace(t);
  const leases = new UidLeases(folder, { ...RANGE, count: 1 });
  leases.take(A, stateOf("a"));
  assert.throws(() => leases.take(B, stateOf("b")), { code: "host.uids_used_up", hint: /uid_count/ });
});

test("the lease of a VM whose folder is gone is nobody's any more", (t) => {
  const { folder, stateOf } = makePlace(t);
  const leases = new UidLeases(folder, { ...RANGE, count: 1 });
  rmSync(leases.take(A, stateOf("a")) > 0 ? stateOf("a") : "", { recursive: true });
  assert.equal(leases.take(B, stateOf("b")), RANGE.first);
});

test("a file that is no lease keeps its uid from being handed out", (t) => {
  const { folder, stateOf } = makePlace(t);
  mkdirSync(folder, { mode: 0o755 });
  writeFileSync(join(folder, String(RANGE.first)), "{ broken");
  const leases = new UidLeases(folder, RANGE);
  assert.equal(leases.take(A, stateOf("a")), RANGE.first + 1);
  assert.deepEqual(readdirSync(folder).toSorted(), [String(RANGE.first), String(RANGE.first + 1)]);
});

test("a folder that others may write to is not trusted", (t) => {
  const { folder, stateOf } = makePlace(t);
  mkdirSync(folder);
  chmodSync(folder, 0o777);
  assert.throws(() => new UidLeases(folder, RANGE).take(A, stateOf("a")), { code: "path.unmanaged" });
});

const isRoot = process.geteuid?.() === 0;

test("a uid that a process has is neither handed out nor given back", { skip: !isRoot }, async (t) => {
  const { folder, stateOf } = makePlace(t);
  const leases = new UidLeases(folder, RANGE);
  const uid = leases.take(A, stateOf("a"));
  const ended = Promise.withResolvers<void>();
  const holder = await startDetached("setpriv", ["--reuid", String(uid), "--clear-groups", "sleep", "1000"], {
    cwd: "/",
    logFile: join(folder, "..", "log"),
    onExit: () => ended.resolve(),
  });
  while (!listUids().has(uid)) await new Promise(setImmediate); // Until setpriv has done its work.
  assert.throws(() => leases.release(A, stateOf("a")), { code: "host.uid_busy" });
  rmSync(join(folder, String(uid)));
  assert.equal(leases.take(B, stateOf("b")), uid + 1);
  process.kill(holder, "SIGKILL");
  await ended.promise;
  assert.equal(leases.take(A, stateOf("a")), uid);
});
