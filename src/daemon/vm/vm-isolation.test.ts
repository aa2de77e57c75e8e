import assert from "node:assert/strict";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { bootIsolation } from "#daemon/vm/vm-isolation.ts";
import { recover } from "#daemon/lifecycle/recover.ts";
import { Vms } from "#daemon/vm/vms.ts";
import type { PortLaunch } from "#helper/privileged-port.ts";
import { FULL_ISOLATION } from "#model/isolation.ts";
import type { Isolation } from "#model/isolation.ts";
import { handleOf } from "#model/vm-state.ts";
import { FakeHost, FakeMachine } from "#testing/fake-host.ts";

function setUp(t: TestContext) {
  const machine = new FakeMachine();
  t.after(() => machine[Symbol.dispose]());
  const open = () => {
    const host = new FakeHost(machine);
    const vms = new Vms(host);
    const close = (): void => {
      vms.detachAll();
      host.store.close();
    };
    return { host, vms, close };
  };
  return { machine, open };
}

test("a VMM that runs has its uid, its cgroup and its files; one that was stopped has none", async (t) => {
  const { machine, open } = setUp(t);
  const { vms, close } = open();
  const { id } = await vms.create({ name: "web", image: "debian" }, false, vms.background());
  await vms.start("web", vms.background());
  const { uids, cgroups, given } = machine.isolation;
  assert.deepEqual([[...uids.keys()], [...cgroups], [...given]], [[id], [id], [id]]);
  await vms.stop("web", { mode: "graceful", timeoutMs: 1_000 }, vms.background());
  assert.deepEqual(machine.isolation.leftovers(), []);
  close();
});

test("a VMM that dies by itself leaves nothing, and a start right after it has all of its isolation again", async (t) => {
  const { machine, open } = setUp(t);
  const { host, vms, close } = open();
  await vms.create({ name: "web", image: "debian" }, false, vms.background());
  const { state } = await vms.start("web", vms.background());
  const handle = handleOf(state);
  assert.ok(handle);
  host.driver.crash(handle);
  const { id } = await vms.start("web", vms.background()); // Waits for what the crash has begun to clean.
  assert.ok(machine.isolation.uids.has(id) && machine.isolation.cgroups.has(id));
  await vms.remove("web", true, vms.background());
  assert.deepEqual(machine.leftovers(), []);
  close();
});

test("the resources of a VMM that died while no hearthd ran are released by the next", async (t) => {
  const { machine, open } = setUp(t);
  const first = open();
  await first.vms.create({ name: "web", image: "debian" }, false, first.vms.background());
  await first.vms.start("web", first.vms.background());
  first.close();
  const [vmm] = machine.vmms.running();
  assert.ok(vmm);
  machine.vmms.end(vmm, { reason: "died", atMs: 0 });
  assert.notDeepEqual(machine.isolation.leftovers(), []);
  const second = open();
  await (
    await recover(second.host, second.vms)
  ).done;
  assert.deepEqual(machine.isolation.leftovers(), []);
  second.close();
});

test("a VMM that runs on keeps its isolation when hearthd is restarted", async (t) => {
  const { machine, open } = setUp(t);
  const first = open();
  await first.vms.create({ name: "web", image: "debian" }, false, first.vms.background());
  await first.vms.start("web", first.vms.background());
  first.close();
  const before = machine.isolation.leftovers();
  const second = open();
  await (
    await recover(second.host, second.vms)
  ).done;
  assert.deepEqual(machine.isolation.leftovers(), before);
  second.close();
});

for (const wall of Object.keys(FULL_ISOLATION) as (keyof Isolation)[]) {
  test(`a boot without ${wall} differs in that alone, and says so`, async (t) => {
    const { machine, open } = setUp(t);
    const { host, vms, close } = open();
    const isolation = { [wall]: false };
    const whole = await vms.create({ name: "whole", image: "debian" }, false, vms.background());
    const less = await vms.create({ name: "less", image: "debian", isolation }, false, vms.background());
    assert.deepEqual(less.spec.isolation, { ...FULL_ISOLATION, [wall]: false });
    for (const name of ["whole", "less"]) await vms.start(name, vms.background());
    const describe = async ({ id }: { id: typeof whole.id }) => {
      const { jail, pidNamespace, seccomp, uid, cgroup } = await bootIsolation(host, host.store.getVm(id), {
        kind: "own",
      });
      return { jail, pidNamespace, seccomp, uid: uid !== undefined, cgroup: cgroup !== undefined };
    };
    const missing = wall === "jail" ? { jail: false, uid: false } : { [wall]: false };
    assert.deepEqual(await describe(less), { ...(await describe(whole)), ...missing });
    assert.deepEqual((await bootIsolation(host, whole, { kind: "own" })).gaps, []);
    assert.equal((await bootIsolation(host, less, { kind: "own" })).gaps.length, 1);
    for (const name of ["whole", "less"]) await vms.remove(name, true, vms.background());
    assert.deepEqual(machine.leftovers(), []);
    close();
  });
}

test("a launch names the VM, the chosen isolation and a priority, and no path that follows from the VM", async (t) => {
  const { open } = setUp(t);
  const { host, vms, close } = open();
  const isolation = { pidNamespace: false };
  const { id } = await vms.create({ name: "web", image: "debian", isolation }, false, vms.background());
  const asked: [string, PortLaunch][] = [];
  host.helper.launchVmm = (vm, launch) => {
    asked.push([vm, launch]);
    return Promise.reject(new Error("not here"));
  };
  const vm = host.store.getVm(id);
  for (const internal of [undefined, "background", "foreground"] as const) {
    const ofVm = { ...vm, spec: { ...vm.spec, internal } };
    const { launch } = await bootIsolation(host, ofVm, { kind: "host" });
    const what = { program: "vmm", args: ["-S"], files: [], fileMaxBytes: 1, stdin: "/saved" };
    const derived = { vmId: "another", logFile: "/elsewhere", dir: "/elsewhere" };
    await assert.rejects(launch({ ...what, ...derived }, t.signal), /not here/);
  }
  const chosen = { jail: true, pidNamespace: false, network: { kind: "host" }, cgroup: true };
  const launched = {
    program: "vmm",
    args: ["-S"],
    files: [],
    fileMaxBytes: 1,
    stdin: "/saved",
    isolation: chosen,
  };
  const more = { stdout: undefined, jailer: undefined };
  assert.deepEqual(
    asked,
    ["foreground", "background", "foreground"].map((priority) => [id, { ...launched, ...more, priority }]),
  );
  close();
});
