/** Tests the verb that ends a VM's processes, and no others. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import type { PortLaunch } from "#helper/privileged-port.ts";
import type { PrivilegedVerbs } from "#helper/privileged-verbs.ts";
import { endProcess } from "#host/process-end.ts";
import { findProcess, isAlive, listUids } from "#host/procfs.ts";
import type { ProcessRef } from "#host/procfs.ts";
import { startDetached } from "#host/run.ts";
import { HelperPlace, SLEEP, VM } from "#testing/helper-place.ts";

const isRoot = process.geteuid?.() === 0;
const never = new AbortController().signal;
const OTHER = "vm-bbbbbbbbbbbb";
const OWNER = { uid: 1_980_000_500, gid: 1_980_000_600 };
const JAILED: PortLaunch = { ...SLEEP, isolation: { ...SLEEP.isolation, jail: true, pidNamespace: true } };

/** Starts a program of this uid, which runs when this resolves. */
async function start(t: TestContext, place: HelperPlace, uid: number, env = {}): Promise<ProcessRef> {
  const args = ["--reuid", String(uid), "--clear-groups", "sleep", "1000"];
  const log = join(place.dir, "log");
  const pid = await startDetached("setpriv", args, { cwd: "/", env, logFile: log, onExit: () => {} });
  while (!readFileSync(`/proc/${pid}/cmdline`, "utf8").startsWith("sleep")) await new Promise(setImmediate);
  const found = findProcess(pid);
  assert.ok(found);
  t.after(() => endProcess(found, 0, never));
  return found;
}

/** Launches a program in a VMM's place. */
async function launch(t: TestContext, helper: PrivilegedVerbs, vm: string, what: PortLaunch) {
  const { process: vmm, launcher, exit } = await helper.launchVmm(vm, what, never);
  assert.ok(vmm);
  t.after(() => endProcess(vmm, 0, never));
  while (readFileSync(`/proc/${vmm.pid}/comm`, "utf8") !== "sleep\n") await new Promise(setImmediate);
  return { vmm, launcher, exit };
}

test("a VMM and its launcher are ended by the port that has launched them", { skip: !isRoot }, async (t) => {
  using place = new HelperPlace();
  const helper = place.helper(true, { owner: OWNER });
  await helper.leaseUid(VM);
  const bare = await launch(t, helper, VM, { ...SLEEP });
  assert.equal(await helper.endVmm(VM, bare.vmm, 60_000, never), "SIGTERM");
  const jailed = await launch(t, helper, VM, JAILED);
  assert.ok(jailed.launcher);
  assert.equal(await helper.endVmm(VM, jailed.launcher, 0, never), "SIGKILL");
  assert.equal(await helper.endVmm(VM, jailed.vmm, 0, never), "SIGKILL");
  assert.equal(await helper.endVmm(VM, jailed.vmm, 0, never), undefined, "one that is gone is no error");
});

test(
  "a port that has launched nothing knows a VM's processes by uid, cgroup, mark and owner",
  { skip: !isRoot },
  async (t) => {
    using place = new HelperPlace();
    const before = place.helper(true, { owner: OWNER });
    const uid = await before.leaseUid(VM);
    assert.ok(uid);
    const { vmm, launcher } = await launch(t, before, VM, JAILED);
    assert.ok(launcher);
    const helper = place.helper(true, { owner: OWNER });
    assert.equal(await helper.endVmm(VM, launcher, 0, never), "SIGKILL");
    assert.equal(await helper.endVmm(VM, vmm, 0, never), "SIGKILL");
    const own = await start(t, place, OWNER.uid);
    assert.equal(await helper.endVmm(VM, own, 0, never), "SIGKILL");
    const limited = await start(t, place, OWNER.uid + 1);
    writeFileSync(join(place.roots.cgroups, "hearth", VM, "cgroup.procs"), `1\n${limited.pid}\n`);
    assert.equal(await helper.endVmm(VM, limited, 0, never), "SIGKILL");
  },
);

test("every other process is left alone, and the error says so", { skip: !isRoot }, async (t) => {
  using place = new HelperPlace();
  const helper = place.helper(true, { owner: OWNER });
  await helper.leaseUid(VM);
  const uid = await helper.leaseUid(OTHER);
  assert.ok(uid);
  const mark = { HEARTH_VM: VM };
  const others = [
    await start(t, place, uid),
    await start(t, place, 0),
    await start(t, place, 0, { HEARTH_VM: OTHER }),
    await start(t, place, OWNER.uid + 1, mark),
  ];
  assert.ok(listUids().has(uid));
  const init = findProcess(1);
  assert.ok(init);
  for (const other of [...others, init])
    await assert.rejects(helper.endVmm(VM, other, 0, never), {
      code: "input.invalid",
      message: `Cannot end process ${other.pid}: it does not belong to ${VM}.`,
    });
  for (const reused of others) {
    const stale = { ...reused, startTicks: reused.startTicks + 1 };
    assert.equal(await helper.endVmm(VM, stale, 0, never), undefined);
  }
  for (const other of others) assert.ok(isAlive(other));
  // The probe can succeed: the mark is accepted on a process of root.
  const launcher = await start(t, place, 0, mark);
  assert.equal(await helper.endVmm(VM, launcher, 0, never), "SIGKILL");
});

test("an invalid process and an invalid grace are refused", async () => {
  using place = new HelperPlace();
  const helper = place.helper();
  const own = findProcess(process.pid);
  assert.ok(own);
  const broken = [
    undefined,
    null,
    1,
    {},
    { ...own, pid: "1" },
    { ...own, pid: -1 },
    { ...own, hostBootId: 1 },
  ];
  for (const one of broken)
    await assert.rejects(helper.endVmm(VM, one as never, 0, never), { code: "input.invalid" });
  for (const graceMs of [-1, Number.NaN, Infinity, "1" as never, undefined as never])
    await assert.rejects(helper.endVmm(VM, own, graceMs, never), { code: "input.invalid" });
});
