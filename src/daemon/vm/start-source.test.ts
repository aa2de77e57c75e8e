import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { test } from "node:test";
import { forkVm } from "#daemon/snapshot/fork-vm.ts";
import { chooseStartSource } from "#daemon/vm/start-source.ts";
import type { StartOptions, StartSource } from "#daemon/vm/start-source.ts";
import { vmPaths } from "#daemon/store/paths.ts";
import { parseSnapshotName } from "#model/ids.ts";
import type { VmState } from "#model/vm-state.ts";
import { useFakeDaemon } from "#testing/fake-daemon.ts";
import type { FakeDaemon } from "#testing/fake-daemon.ts";
import { LAYERED } from "#testing/fake-host.ts";

const config = "warm.enabled = true";
const NAME = parseSnapshotName("s1");
const CREATED: VmState = { phase: "created" };
const STOPPED: VmState = { phase: "stopped", exit: { reason: "asked", atMs: 1 } };
const FAILED: VmState = { phase: "failed", code: "vm.boot_failed", message: "It did not boot.", atMs: 1 };

type Case = {
  readonly title: string;
  readonly state: VmState;
  readonly how?: StartOptions;
  readonly more?: { readonly cold?: boolean; readonly snapshot?: string };
  /** A first start that failed has removed it. */
  readonly noDisk?: boolean;
  readonly memory: "template" | "s1" | undefined;
  readonly disk: "template" | "s1" | Extract<StartSource["disk"], string>;
};

const CASES: readonly Case[] = [
  {
    title: "a VM that never ran starts from the template",
    state: CREATED,
    memory: "template",
    disk: "template",
  },
  {
    title: "so does one that failed, asked to begin anew",
    state: FAILED,
    how: { fresh: true },
    memory: "template",
    disk: "template",
  },
  {
    title: "so does one that has stopped, asked to begin anew",
    state: STOPPED,
    how: { fresh: true },
    memory: "template",
    disk: "template",
  },
  { title: "one that has stopped keeps its disk", state: STOPPED, memory: undefined, disk: "keep" },
  { title: "one that failed keeps its disk", state: FAILED, memory: undefined, disk: "keep" },
  {
    title: "one whose first start failed starts as one that never ran",
    state: { ...FAILED, neverRan: true },
    noDisk: true,
    memory: "template",
    disk: "template",
  },
  {
    title: "without a template it gets a disk",
    state: { ...FAILED, neverRan: true },
    more: { cold: true },
    noDisk: true,
    memory: undefined,
    disk: "empty",
  },
  {
    title: "a cold one boots with the disk that it has",
    state: CREATED,
    more: { cold: true },
    memory: undefined,
    disk: "keep",
  },
  {
    title: "a cold one that begins anew gets an empty disk",
    state: STOPPED,
    how: { fresh: true },
    more: { cold: true },
    memory: undefined,
    disk: "empty",
  },
  {
    title: "one made from a snapshot is restored from it, also where a template would fit",
    state: CREATED,
    more: { snapshot: NAME },
    memory: "s1",
    disk: "s1",
  },
  { title: "and again when that failed", state: FAILED, more: { snapshot: NAME }, memory: "s1", disk: "s1" },
  {
    title: "and again when hearthd died during its restore",
    state: STOPPED,
    more: { snapshot: NAME },
    memory: "s1",
    disk: "s1",
  },
  {
    title: "with its disk alone when it is a cold one",
    state: CREATED,
    more: { snapshot: NAME, cold: true },
    memory: undefined,
    disk: "s1",
  },
  {
    title: "a fresh start of one made from a snapshot ignores the snapshot",
    state: FAILED,
    how: { fresh: true },
    more: { snapshot: NAME },
    memory: "template",
    disk: "template",
  },
];

/** Makes a template, a snapshot `s1`, and a VM like these that never ran. */
async function setUp(daemon: FakeDaemon, more: Case["more"] = {}) {
  const { host, vms, snapshots, templates } = daemon;
  const call = vms.background();
  const source = await daemon.run("source", 0, { image: "debian" });
  await templates.build(source, call);
  await templates.idle();
  await snapshots.create("source", { kind: "named", name: NAME }, call);
  const request = more.snapshot === undefined ? { image: "debian", ...more } : more;
  const vm = await vms.create({ name: "web", ...request }, false, call);
  return { host, vm };
}

for (const { title, state, how = {}, more, noDisk, memory, disk } of CASES) {
  test(`start source: ${title}`, async (t) => {
    const daemon = await useFakeDaemon(t, { config });
    const { host, vm } = await setUp(daemon, more);
    if (noDisk) rmSync(vmPaths(host.dirs, vm.id).disk);
    const source = await chooseStartSource(host, { ...vm, state }, host.driver, how, t.signal);
    const name = (of: StartSource["disk"] | undefined): string | undefined =>
      typeof of === "object" ? (of.kind === "warm" ? "template" : of.name) : of;
    assert.deepEqual([name(source.memory?.snapshot), name(source.disk)], [memory, disk]);
    if (memory !== undefined) assert.equal(source.memory?.required, memory === "s1");
  });
}

for (const [features, disk] of [
  [undefined, "keep"],
  [LAYERED, "overlay"],
] as const) {
  test(`a suspended VM is resumed with its own disk: ${disk}`, async (t) => {
    const daemon = await useFakeDaemon(t, { config, features: features ?? {} });
    const { host, vms, snapshots } = daemon;
    // Also a VM that booted in place of a restore.
    await daemon.run("web", 0, { image: "debian", cold: true });
    const vm = await snapshots.suspend("web", vms.background());
    const source = await chooseStartSource(host, vm, host.driver, {}, t.signal);
    assert.ok(vm.state.phase === "suspended");
    assert.deepEqual(
      [source.memory?.snapshot.id, source.memory?.required, source.disk],
      [vm.state.snapshot, true, disk],
    );
  });
}

test("where templates are off, a VM that never ran boots, and a fork is restored all the same", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms, templates } = daemon;
  const vm = await daemon.run("web");
  assert.equal(await templates.build(vm, vms.background()), undefined);
  await forkVm(daemon, "web", { count: 1 }, vms.background());
  assert.deepEqual(
    host.driver.calls.filter((call) => !/^(save|finalize|pause|resume)/.test(call)),
    ["boot web", "restore web-1"],
  );
});
