import assert from "node:assert/strict";
import { test } from "node:test";
import { errorChain, HearthError } from "#base/error.ts";
import { forkVm } from "#daemon/snapshot/fork-vm.ts";
import type { ForkOptions } from "#daemon/snapshot/fork-vm.ts";
import { parseVmName } from "#model/ids.ts";
import { LIMITS } from "#model/limits.ts";
import { handleOf } from "#model/vm-state.ts";
import { assertRuns, crashTest } from "#testing/crash-story.ts";
import { useFakeDaemon } from "#testing/fake-daemon.ts";
import type { FakeDaemon } from "#testing/fake-daemon.ts";
import { writtenOn } from "#testing/fake-guest.ts";
import { LAYERED } from "#testing/fake-host.ts";
import { Gate } from "#testing/gate.ts";

const WEB = parseVmName("web");

async function fork(daemon: FakeDaemon, how: ForkOptions, source = "web"): Promise<string[]> {
  return (await forkVm(daemon, source, how, daemon.vms.background())).map(({ name }) => name);
}

function names({ host }: FakeDaemon): string[] {
  return host.store
    .listVms()
    .map(({ name }) => name)
    .toSorted();
}

test("forks and source run on from the same moment; one temporary snapshot serves all forks", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host } = daemon;
  await daemon.run("web", 2);
  assert.deepEqual(await fork(daemon, { count: 3 }), ["web-1", "web-2", "web-3"]);
  assert.equal(host.driver.calls.filter((call) => call === "save").length, 1);
  assert.deepEqual(host.snapshots.list(), []);
  daemon.work("web");
  for (const name of ["web-1", "web-2", "web-3"]) {
    const vmm = host.machine.vmm(name);
    assert.deepEqual([vmm.count, writtenOn(vmm)], [2, 2]);
    assert.equal(vmm.guest.calls[0], "configure restored");
    await assertRuns(daemon, name);
    daemon.work(name);
  }
  await assertRuns(daemon, "web");
});

test("every fork gets a name, a machine-id and entropy of its own, before anything runs in it", async (t) => {
  const daemon = await useFakeDaemon(t);
  await daemon.run("web");
  const all = ["web", ...(await fork(daemon, { count: 4 }))];
  for (const part of ["hostname", "machineId", "entropy"] as const) {
    const seen = all.map((name) => daemon.host.machine.vmm(name).guest[part]);
    assert.ok(!seen.includes(""));
    assert.equal(new Set(seen).size, all.length, part);
  }
});

test("forks of a paused VM run, and it stays paused; forks of forks are like any", async (t) => {
  const daemon = await useFakeDaemon(t, { features: LAYERED });
  const { host, vms } = daemon;
  await daemon.run("web", 1);
  await vms.pause("web", vms.background());
  await fork(daemon, { count: 1 });
  assert.deepEqual([host.machine.vmm("web").phase, host.machine.vmm("web-1").phase], ["paused", "running"]);
  daemon.work("web-1");
  assert.deepEqual(await fork(daemon, { count: 1 }, "web-1"), ["web-1-1"]);
  assert.equal(host.machine.vmm("web-1-1").count, 2);
});

const LONG = parseVmName("a".repeat(63));
const NAMED: readonly [
  title: string,
  source: string,
  there: string[],
  how: ForkOptions,
  expected: string[],
][] = [
  ["the next numbers that are free", "web", ["web-1", "web-3"], { count: 3 }, ["web-2", "web-4", "web-5"]],
  ["the name, when there is one", "web", [], { count: 1, name: parseVmName("api") }, ["api"]],
  [
    "the name with numbers, when there are more",
    "web",
    [],
    { count: 2, name: parseVmName("api") },
    ["api-1", "api-2"],
  ],
  [
    "a long name cut, and not refused",
    LONG,
    [],
    { count: 2 },
    [`${"a".repeat(61)}-1`, `${"a".repeat(61)}-2`],
  ],
  [
    "no two hyphens where a name was cut",
    "web",
    [],
    { count: 2, name: parseVmName(`${"a".repeat(60)}-bc`) },
    [`${"a".repeat(60)}-1`, `${"a".repeat(60)}-2`],
  ],
];

for (const [title, source, there, how, expected] of NAMED) {
  test(`names of forks: ${title}`, async (t) => {
    const daemon = await useFakeDaemon(t);
    const { vms } = daemon;
    await daemon.run(source);
    for (const name of there) await vms.create({ name, image: "debian" }, false, vms.background());
    assert.deepEqual(await fork(daemon, how, source), expected);
    for (const name of expected) await assertRuns(daemon, name);
  });
}

test("a taken name, or an invalid number of forks, is refused before anything is saved", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms } = daemon;
  await daemon.run("web");
  await vms.create({ name: "api-2", image: "debian" }, false, vms.background());
  const taken = { code: "name.taken" };
  await assert.rejects(fork(daemon, { count: 1, name: WEB }), taken);
  await assert.rejects(fork(daemon, { count: 2, name: parseVmName("api") }), taken);
  for (const count of [0, -1, 1.5, Number.NaN, LIMITS.forksMax + 1])
    await assert.rejects(fork(daemon, { count }), { code: "input.invalid", hint: /1 to 100/ });
  await vms.stop("web", { mode: "kill", timeoutMs: 0 }, vms.background());
  await assert.rejects(fork(daemon, { count: 1 }), { code: "vm.wrong_phase" });
  assert.ok(!host.driver.calls.includes("save"));
  assert.deepEqual(names(daemon), ["api-2", "web"]);
});

test("as many forks as one may ask for", async (t) => {
  const daemon = await useFakeDaemon(t);
  await daemon.run("web");
  assert.equal((await fork(daemon, { count: LIMITS.forksMax })).length, LIMITS.forksMax);
  assert.equal(daemon.host.machine.vmms.running().length, LIMITS.forksMax + 1);
});

test("forks are removed when they end if that was asked for, whatever their source is", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host } = daemon;
  await daemon.run("web", 0, { image: "debian", autoRemove: true });
  await fork(daemon, { count: 1 });
  await fork(daemon, { count: 1, autoRemove: true });
  assert.deepEqual(
    ["web-1", "web-2"].map((name) => host.store.getVm(name).spec.autoRemove),
    [false, true],
  );
  assert.deepEqual(host.store.listEphemeral(), [], "they are the caller's");
});

/** Lets so many restores begin, and then calls `act`. */
function atRestore({ host }: FakeDaemon, times: number, act: () => void): void {
  const { snapshotter } = host.driver;
  assert.ok(snapshotter);
  const restore = snapshotter.restore.bind(snapshotter);
  let begun = 0;
  snapshotter.restore = (...args) => {
    begun += 1;
    if (begun === times) act();
    return restore(...args);
  };
}

test("when the last of many does not start, all are removed, and the source runs on", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms } = daemon;
  await daemon.run("web", 1);
  atRestore(daemon, 9, () => (host.driver.faults.restoreError = new Error("no such luck")));
  await assert.rejects(fork(daemon, { count: 9 }));
  assert.deepEqual(names(daemon), ["web"]);
  assert.deepEqual(host.snapshots.list(), []);
  await assertRuns(daemon, "web");
  await vms.remove("web", true, vms.background());
  assert.deepEqual(host.machine.leftovers(), []);
});

test("when forks fail, one that cannot be removed is reported with the reason, and the others are removed", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms } = daemon;
  await daemon.run("web");
  atRestore(daemon, 3, () => (host.driver.faults.restoreError = new Error("no such luck")));
  const { discard } = vms;
  vms.discard = (id) =>
    host.store.getVm(id).name === "web-1" ? Promise.reject(new Error("EBUSY")) : discard.call(vms, id);
  const error: unknown = await fork(daemon, { count: 3 }).catch((thrown: unknown) => thrown);
  assert.match(errorChain(error), /no such luck.*EBUSY/s);
  assert.deepEqual(names(daemon), ["web", "web-1"]);
  assert.deepEqual(host.snapshots.list(), []);
});

test("a cancelled fork leaves no forks", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms } = daemon;
  await daemon.run("web");
  const cancel = new AbortController();
  const gate = new Gate();
  atRestore(daemon, 2, () => (host.driver.faults.restoreGate = gate));
  const call = { ...vms.background(), signal: cancel.signal };
  const forked = assert.rejects(forkVm(daemon, "web", { count: 5 }, call), { code: "operation.cancelled" });
  await gate.reached;
  cancel.abort(new HearthError("operation.cancelled", "Nobody wants them."));
  await forked;
  assert.deepEqual(names(daemon), ["web"]);
  assert.deepEqual(host.snapshots.list(), []);
});

test("when a fork ends before the others run, all are removed", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host } = daemon;
  await daemon.run("web");
  const gate = new Gate();
  atRestore(daemon, 2, () => (host.driver.faults.restoreGate = gate));
  const forked = assert.rejects(fork(daemon, { count: 2 }), { code: "vm.gone" });
  await gate.reached;
  while (handleOf(host.store.getVm("web-1").state) === undefined)
    await new Promise((resolve) => setImmediate(resolve));
  const handle = handleOf(host.store.getVm("web-1").state);
  assert.ok(handle);
  host.driver.powerOff(handle);
  gate.open();
  await forked;
  assert.deepEqual(names(daemon), ["web"]);
  assert.deepEqual(host.snapshots.list(), []);
});

crashTest("killing hearthd during a fork leaves all copies or none, and the source running", {
  options: { features: LAYERED },
  before: (daemon) => daemon.run("web", 2),
  act: (daemon) => forkVm(daemon, "web", { count: 2 }, daemon.vms.background()),
  includes: ["driver.save", "driver.restore", "guest.configure", "snapshots.delete"],
  after: (daemon) => {
    const found = names(daemon);
    if (found.length > 1) assert.deepEqual(found, ["web", "web-1", "web-2"]);
    for (const name of found) {
      assert.equal(daemon.host.store.getVm(name).state.phase, "running", name);
      assert.equal(writtenOn(daemon.host.machine.vmm(name)), 2);
    }
  },
});
