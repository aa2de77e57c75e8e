import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { UidLeases } from "#helper/uid-leases.ts";
import { listUids } from "#host/procfs.ts";
import { run, runOrThrow, startDetached } from "#host/run.ts";
import { parseVmId } from "#model/ids.ts";
import { startLockHolder } from "#testing/lock-holder.ts";
import { UID_RACER } from "#testing/uid-racer.ts";

const [A, B, C] = ["vm-aaaaaaaaaaaa", "vm-bbbbbbbbbbbb", "vm-cccccccccccc"].map(parseVmId) as [
  never,
  never,
  never,
];
const RANGE = { first: 1_990_000_000, count: 2 };

function makePlace(t: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), "hearth-uids-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const stateOf = (name: string): string => {
    mkdirSync(join(dir, "vms", name), { recursive: true });
    return join(dir, "vms", name);
  };
  return { dir: join(dir, "uids"), stateOf };
}

test("a VM keeps its uid, two never share one, and a released one can be leased again", async (t) => {
  const { dir, stateOf } = makePlace(t);
  const ours = new UidLeases(dir, RANGE);
  const theirs = new UidLeases(dir, RANGE); // Another hearthd.
  assert.equal(await ours.take(A, stateOf("a")), RANGE.first);
  assert.equal(await ours.take(A, stateOf("a")), RANGE.first);
  assert.equal(await theirs.take(B, stateOf("b")), RANGE.first + 1);
  await ours.release(A, stateOf("a"));
  await ours.release(A, stateOf("a"));
  assert.equal(await theirs.take(C, stateOf("c")), RANGE.first);
});

test("the same id with another state directory is another VM", async (t) => {
  const { dir, stateOf } = makePlace(t);
  const leases = new UidLeases(dir, RANGE);
  assert.notEqual(await leases.take(A, stateOf("a")), await leases.take(A, stateOf("other")));
});

test("when all are in use, the error names the setting for more", async (t) => {
  const { dir, stateOf } = makePlace(t);
  const leases = new UidLeases(dir, { ...RANGE, count: 1 });
  await leases.take(A, stateOf("a"));
  await assert.rejects(leases.take(B, stateOf("b")), { code: "host.uids_used_up", hint: /uid_count/ });
});

test("the lease of a VM whose directory is gone is free again", async (t) => {
  const { dir, stateOf } = makePlace(t);
  const leases = new UidLeases(dir, { ...RANGE, count: 1 });
  await leases.take(A, stateOf("a"));
  rmSync(stateOf("a"), { recursive: true });
  assert.equal(await leases.take(B, stateOf("b")), RANGE.first);
});

test("the uid of a file that is not a lease is not leased", async (t) => {
  const { dir, stateOf } = makePlace(t);
  mkdirSync(dir, { mode: 0o755 });
  writeFileSync(join(dir, String(RANGE.first)), "{ broken");
  const leases = new UidLeases(dir, RANGE);
  assert.equal(await leases.take(A, stateOf("a")), RANGE.first + 1);
  assert.deepEqual(readdirSync(dir).toSorted(), [".lock", String(RANGE.first), String(RANGE.first + 1)]);
});

test("a directory that others may write to is not trusted", async (t) => {
  const { dir, stateOf } = makePlace(t);
  mkdirSync(dir);
  chmodSync(dir, 0o777);
  await assert.rejects(new UidLeases(dir, RANGE).take(A, stateOf("a")), { code: "path.unmanaged" });
});

test("hearthds that lease uids at the same moment never share one, even if each finds the same stale lease", async (t) => {
  const { dir, stateOf } = makePlace(t);
  const rounds = 20;
  const racers = ["a", "b", "c"];
  for (let round = 0; round < rounds; round++) {
    mkdirSync(join(dir, String(round)), { recursive: true, mode: 0o755 });
    const stale = JSON.stringify({ vm: A, stateDir: join(dir, "gone") });
    writeFileSync(join(dir, String(round), String(RANGE.first)), stale);
  }
  const { first } = RANGE;
  const results = await Promise.all(
    racers.map(async (name) => {
      const race = { dir, name, racers: racers.length, rounds, stateDir: stateOf(name), first };
      const argv = [UID_RACER, JSON.stringify(race)];
      return JSON.parse(await runOrThrow(process.execPath, argv, { timeoutMs: 60_000, signal: t.signal }));
    }),
  );
  const taken = Array.from({ length: rounds }, (_, round) => results.map((uids) => uids[round]).toSorted());
  assert.deepEqual(
    taken,
    taken.map(() => [first, first + 1, first + 2]),
  );
});

test("a hearthd that waits for the lock of the leases changes nothing meanwhile, and then gets a uid", async (t) => {
  const { dir, stateOf } = makePlace(t);
  mkdirSync(dir, { mode: 0o755 });
  const holder = await startLockHolder(join(dir, ".lock"), t.signal);
  const uid = new UidLeases(dir, RANGE).take(A, stateOf("a"));
  await new Promise(setImmediate);
  const leased = existsSync(join(dir, String(RANGE.first)));
  await holder.kill();
  assert.equal(leased, false);
  assert.equal(await uid, RANGE.first);
});

const isRoot = process.geteuid?.() === 0;

/** Makes VMs' state directories that only this mount namespace sees, leases a uid there, and leases one outside. */
const LEASE_APART = `
  mount -t tmpfs none "$1" && mkdir "$1/a" || exit 1
  "$2" "$3" "$4" || exit 1
  nsenter --mount=/proc/$PPID/ns/mnt "$2" "$3" "$5" 2>&1`;

test(
  "the lease of a VM whose directory only another mount namespace sees is kept until that namespace has ended",
  { skip: !isRoot },
  async (t) => {
    const { dir, stateOf } = makePlace(t);
    mkdirSync(join(dir, "0"), { recursive: true });
    const outside = stateOf("outside");
    const race = (stateDir: string): string =>
      JSON.stringify({ dir, name: "a", racers: 1, rounds: 1, stateDir, first: RANGE.first });
    const argv = [join(dir, "..", "vms"), process.execPath, UID_RACER, race(stateOf("a")), race(outside)];
    rmSync(stateOf("a"), { recursive: true });
    const options = { timeoutMs: 60_000, signal: t.signal };
    const apart = await run("unshare", ["--mount", "sh", "-c", LEASE_APART, "sh", ...argv], options);
    assert.match(apart.stdout, new RegExp(`^\\[${RANGE.first}\\]\n[^]*host\\.uids_used_up`), apart.stderr);
    const leases = new UidLeases(join(dir, "0"), { ...RANGE, count: 1 });
    assert.equal(await leases.take(A, outside), RANGE.first);
  },
);

test("a uid that a process has is neither leased nor released", { skip: !isRoot }, async (t) => {
  const { dir, stateOf } = makePlace(t);
  const leases = new UidLeases(dir, RANGE);
  const uid = await leases.take(A, stateOf("a"));
  const ended = Promise.withResolvers<void>();
  const holder = await startDetached("setpriv", ["--reuid", String(uid), "--clear-groups", "sleep", "1000"], {
    cwd: "/",
    logFile: join(dir, "..", "log"),
    onExit: () => ended.resolve(),
  });
  while (!listUids().has(uid)) await new Promise(setImmediate); // Until setpriv has done its work.
  await assert.rejects(leases.release(A, stateOf("a")), { code: "host.uid_busy" });
  rmSync(join(dir, String(uid)));
  assert.equal(await leases.take(B, stateOf("b")), uid + 1);
  process.kill(holder, "SIGKILL");
  await ended.promise;
  assert.equal(await leases.take(A, stateOf("a")), uid);
});
