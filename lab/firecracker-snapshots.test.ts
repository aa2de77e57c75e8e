/**
 * Tests snapshots of a whole guest, where the contract's tiny guests show too little: its agent is reached again, and
 * its disk fits its memory.
 */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { TestContext } from "node:test";
import { MIB } from "#base/sizes.ts";
import { FirecrackerDriver } from "#drivers/firecracker/firecracker-driver.ts";
import { findFirecracker } from "#drivers/firecracker/install/find-firecracker.ts";
import type { BootPlan, SnapshotFiles } from "#drivers/vm-driver.ts";
import { reachAgent } from "#guest/wait-for-agent.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import { hooksOf } from "#testing/saved-in-contract.ts";
import { command } from "./command.ts";
import { FirecrackerPlans, ownedByVmm } from "./firecracker-plans.ts";

const CACHE = join(process.env["HEARTH_E2E_CACHE"] ?? "/srv/cache", "hearth");
const AGENT_MS = 180_000;
const signal = AbortSignal.timeout(600_000);

const dir = mkdtempSync(join(tmpdir(), "hearth-saved-"));
after(() => rmSync(dir, { recursive: true }));
const plans = new FirecrackerPlans(CACHE, dir);
const driver = new FirecrackerDriver({
  find: () => findFirecracker({ cacheDir: CACHE }, signal),
  kvm: () => Promise.resolve("works"),
});

/** On a connection of its own. */
async function sh(handle: VmHandle, script: string): Promise<string> {
  const agent = await reachAgent(handle, { deadlineMs: AGENT_MS }, signal);
  const spec = { argv: ["sh", "-c", script], env: {}, stdin: false, detach: false };
  let out = "";
  for await (const event of agent.exec(spec, { id: "test" }, signal))
    if (event.type === "stdout") out += Buffer.from(event.bytes).toString();
  agent.close();
  return out;
}

/** Returns the plan of another VM, with a copy of the disk. */
async function onCopy(plan: BootPlan, saved: string): Promise<BootPlan> {
  for (const { path, readOnly } of plan.disks) if (!readOnly) await copyDisk(saved, path);
  return ownedByVmm(plan);
}

/** Its holes take no room in the lab, whose disk is memory. */
async function copyDisk(from: string, to: string): Promise<void> {
  await command("cp", ["--sparse=always", from, to]);
}

// In its jail it is saved in snapshots.test.ts, and below.
test("a guest without a jail is restored with its processes, its disk and its agent", async (t) => {
  const lasted = async <Answer>(what: string, work: Promise<Answer>): Promise<Answer> => {
    const startMs = performance.now();
    const answer = await work;
    t.diagnostic(`${what}: ${Math.round(performance.now() - startMs)} ms`);
    return answer;
  };
  using source = await plans.make(false);
  const vm = await driver.boot(source.plan, () => {}, signal);
  t.after(() => driver.stop(vm, "kill", signal));
  await lasted("agent after the boot", sh(vm, "true"));
  await sh(vm, "echo on disk > /root/note; sync; echo in memory > /run/note; sleep 9999 >/dev/null 2>&1 &");
  const kept = join(dir, "saved");
  mkdirSync(kept);
  const [saved, disk] = [{ memory: join(kept, "memory"), state: join(kept, "state") }, join(kept, "disk")];
  const own = source.plan.disks.find(({ readOnly }) => !readOnly);
  let pausedMs = 0;
  const hooks = {
    quiesce: async () => void (pausedMs = performance.now()),
    onPaused: async () => {
      t.diagnostic(`halted until the disks' turn: ${Math.round(performance.now() - pausedMs)} ms`);
      await copyDisk(own?.path ?? "", disk);
    },
  };
  await lasted("save", driver.snapshotter.save(vm, saved, hooks, signal));
  await lasted("the source's agent after the save", sh(vm, "echo later > /root/note; sync"));
  using trial = await plans.make(false);
  await lasted("verify", driver.snapshotter.finalize(await onCopy(trial.plan, disk), saved, signal));
  using other = await plans.make(false);
  const plan = await onCopy(other.plan, disk);
  const restored = await lasted(
    "restore",
    driver.snapshotter.restore(plan, saved, () => {}, signal),
  );
  t.after(() => driver.stop(restored, "kill", signal));
  const said = await lasted(
    "its agent after that",
    sh(restored, "cat /root/note /run/note; cat /proc/[0-9]*/comm | grep -cx sleep"),
  );
  assert.equal(said, "on disk\nin memory\n1\n");
  assert.equal(await sh(vm, "cat /root/note"), "later\n");
  await sh(restored, "echo its own > /root/note; sync");
  assert.equal(await sh(vm, "cat /root/note"), "later\n");
});

test("a restored guest is saved by what has changed, time and again, and is whole when it is restored", async (t) => {
  using source = await plans.make(true);
  const vm = await driver.boot(source.plan, () => {}, signal);
  const disk = join(dir, "changed-disk");
  const own = source.plan.disks.find(({ readOnly }) => !readOnly);
  await sh(vm, "true");
  const template = await save(t, "everything", vm, () => copyDisk(own?.path ?? "", disk));
  await driver.stop(vm, "kill", signal);
  using trial = await plans.make(true);
  await driver.snapshotter.finalize(await onCopy(trial.plan, disk), template, signal);

  using one = await plans.make(true);
  const plan = await onCopy(one.plan, disk);
  const restored = await driver.snapshotter.restore(plan, template, () => {}, signal);
  t.after(() => driver.stop(restored, "kill", signal));
  const copied = (): Promise<void> =>
    copyDisk(plan.disks.find(({ readOnly }) => !readOnly)?.path ?? "", disk);
  await sh(restored, "head -c 8M /dev/urandom > /run/blob");
  await save(t, "changes", restored, copied);
  // Other pages than before; what was saved before must not be missing now.
  await sh(restored, "head -c 64k /dev/urandom >> /run/blob; echo on disk > /root/note; sync");
  const last = await save(t, "more changes", restored, copied);
  const said = await sh(restored, "md5sum /run/blob");

  using two = await plans.make(true);
  const again = await driver.snapshotter.restore(await onCopy(two.plan, disk), last, () => {}, signal);
  t.after(() => driver.stop(again, "kill", signal));
  assert.equal(await sh(again, "md5sum /run/blob"), said);
  assert.equal(await sh(again, "cat /root/note"), "on disk\n");
});

let savedCount = 0;

/** Saves a VM, and reports how long the guest was paused for its memory. */
async function save(
  t: TestContext,
  what: string,
  vm: VmHandle,
  onPaused: () => Promise<void>,
): Promise<SnapshotFiles> {
  const kept = join(dir, `changed-${savedCount++}`);
  mkdirSync(kept);
  const saved = { memory: join(kept, "memory"), state: join(kept, "state") };
  let atMs = 0;
  const hooks = {
    ...hooksOf(vm),
    quiesce: async () => void (atMs = performance.now()),
    onPaused: async () => {
      t.diagnostic(`${what}: halted for ${Math.round(performance.now() - atMs)} ms`);
      await onPaused();
    },
  };
  await driver.snapshotter.save(vm, saved, hooks, signal);
  const { blocks, size } = statSync(saved.memory);
  assert.ok(blocks * 512 < size / 2, "zeros take no room");
  t.diagnostic(`${what}: ${Math.round((blocks * 512) / MIB)} of ${size / MIB} MiB on the disk`);
  return saved;
}
