import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { describe, test } from "node:test";
import type { TestContext } from "node:test";
import { parseVmName } from "#model/ids.ts";
import { snapshotPaths, vmPaths } from "#daemon/store/paths.ts";
import type { DriverFeatures } from "#drivers/vm-driver.ts";
import { FakeDaemon } from "#testing/fake-daemon.ts";
import { writtenOn } from "#testing/fake-guest.ts";
import { FakeHost, FakeMachine, LAYERED } from "#testing/fake-host.ts";
import {
  giveOlderMemory,
  giveOlderState,
  OLDER_DISKS,
  OLDER_SNAPSHOTS,
  OLDER_TEMPLATES,
  OLDER_VMS,
} from "#testing/older-state/older-state.ts";

const STOP = { mode: "graceful", timeoutMs: 1_000 } as const;
const OPTIONS = { driverName: "qemu", features: LAYERED, config: "warm.enabled = true" };

/** Runs today's hearthd on the state directory of an older one. */
async function open(t: TestContext, crashed?: string, steps?: number): Promise<FakeDaemon> {
  const machine = new FakeMachine();
  t.after(() => machine[Symbol.dispose]());
  await giveOlderState(machine, crashed, steps);
  const daemon = new FakeDaemon(machine, OPTIONS);
  t.after(() => daemon.end());
  return daemon.begin();
}

function phases(host: FakeHost): Record<string, string> {
  return Object.fromEntries(host.store.listVms().map(({ name, state }) => [name, state.phase]));
}

const SAME_MACHINE: Partial<DriverFeatures> = {
  snapshots: {
    diskFormat: "qcow2",
    vmmFingerprint: "qemu 10.0.2, emulated at 2.6 GHz, machine 670791a1",
    caveats: [],
  },
};
const SAME_BOOT = {
  kernelDigest: "sha256:9ffe3b46c50098048cef2359d59b621df4063486df48e7d514370a02e5675d74",
  initramfs: "/da8e5497a8b132f2dff78e9d9acc5cd5f795c6fde14665a2a0307fbb66c540ba.cpio",
};

const PHASES = {
  stopped: "stopped",
  created: "created",
  running: "suspended",
  "from-memory": "stopped",
  "not-begun": "created",
  resumed: "stopped", // Its VMM is gone.
} as const;

test("every VM, snapshot, template and volume of an older Hearth is shown as it was", async (t) => {
  const { host, templates } = await open(t);
  assert.deepEqual(phases(host), PHASES);
  for (const [name, id] of Object.entries(OLDER_VMS)) {
    const vm = host.store.getVm(name);
    assert.deepEqual([vm.id, vm.owner, vm.unreadable, vm.lastError], [id, "local", undefined, undefined]);
    assert.deepEqual([vm.spec.image, vm.spec.cpus, vm.spec.memoryBytes], ["debian", 1, 2 ** 28]);
    assert.ok(existsSync(vmPaths(host.dirs, vm.id).stateDir));
  }
  assert.deepEqual(host.store.getVm("created").spec.env, { GREETING: "hello" });
  assert.deepEqual(host.store.getVm("created").spec.volumes, [
    { name: "data", path: "/data", readOnly: false },
  ]);
  const shown = host.snapshots
    .list()
    .map(({ id, kind, name, vmName, ready, parts }) => [id, kind, name, vmName, ready, parts.length]);
  assert.deepEqual(
    shown.filter(([, kind]) => kind !== "warm"),
    [
      [OLDER_SNAPSHOTS.suspended, "suspended", undefined, "running", true, 2],
      [OLDER_SNAPSHOTS["disk-alone"], "named", "disk-alone", "stopped", true, 0],
      [OLDER_SNAPSHOTS["with-memory"], "named", "with-memory", "running", true, 2],
    ],
  );
  assert.deepEqual(
    templates.list().map(({ id }) => id),
    OLDER_TEMPLATES,
  );
  for (const { id } of host.snapshots.list()) assert.ok(existsSync(snapshotPaths(host.dirs, id).dir));
  assert.deepEqual(
    (await host.volumes.list()).map(({ name }) => name),
    ["data"],
  );
  assert.deepEqual(
    host.machine.events.filter(({ name }) => name === "lost.found"),
    [],
  );
});

test("VMs of an older Hearth start from their disks", async (t) => {
  const { host, vms } = await open(t);
  for (const name of ["stopped", "from-memory", "resumed"] as const) {
    await vms.start(name, vms.background());
    assert.equal(writtenOn(host.machine.vmm(name)), OLDER_DISKS[OLDER_VMS[name]], name);
    await vms.stop(name, STOP, vms.background());
  }
  await vms.start("created", vms.background());
  assert.equal(host.store.getVm("created").state.phase, "running");
});

test("a suspended VM of an older Hearth is refused if the machine is another, and its disk is kept", async (t) => {
  const { host, vms } = await open(t);
  const refused = { code: "snapshot.mismatch", message: /machine 670791a1; here it is fake 1\.0\.0/ };
  await assert.rejects(vms.resume("running", vms.background()), refused);
  assert.equal(host.store.getVm("running").state.phase, "suspended");
  await vms.kill("running", "kill", vms.background());
  await vms.start("running", vms.background());
  assert.equal(writtenOn(host.machine.vmm("running")), OLDER_DISKS[OLDER_VMS.running]);
  assert.equal(host.snapshots.find(OLDER_SNAPSHOTS.suspended), undefined);
});

test("memory of an older Hearth is restored if the machine is the same", async (t) => {
  const machine = new FakeMachine();
  t.after(() => machine[Symbol.dispose]());
  await giveOlderState(machine);
  const { running } = OLDER_VMS;
  const { suspended, "with-memory": named } = OLDER_SNAPSHOTS;
  await giveOlderMemory(machine, suspended, OLDER_DISKS[running]);
  await giveOlderMemory(machine, named, OLDER_DISKS[named]);
  const daemon = new FakeDaemon(machine, { ...OPTIONS, features: SAME_MACHINE });
  t.after(() => daemon.end());
  const { host, vms } = await daemon.begin();
  host.bootFiles = SAME_BOOT;
  for (const name of ["running", "not-begun"]) {
    await vms.start(name, vms.background());
    assert.equal(machine.vmm(name).count, 7, "what the guest had in memory");
    assert.equal(host.store.getVm(name).spec.sourceSnapshot, undefined);
  }
  assert.equal(host.snapshots.find(OLDER_SNAPSHOTS.suspended), undefined, "it is used up");
});

test("snapshots of an older Hearth make VMs, and restore theirs", async (t) => {
  const { host, vms, snapshots } = await open(t);
  const call = vms.background();
  const make = async (snapshot: keyof typeof OLDER_SNAPSHOTS, more: { cold?: boolean }) => {
    const name = parseVmName(`of-${snapshot}`);
    await vms.create({ name, snapshot, ...more }, false, call);
    await vms.start(name, call);
    assert.equal(
      writtenOn(host.machine.vmm(name)),
      OLDER_DISKS[OLDER_SNAPSHOTS[snapshot] as "sn-6vnszcuy6chu"],
    );
    await vms.kill(name, "kill", call); // It has the volume.
  };
  await make("disk-alone", {});
  await make("with-memory", { cold: true });
  await assert.rejects(vms.start("not-begun", call), { code: "snapshot.mismatch" });
  await snapshots.restore("disk-alone", call);
  await vms.start("stopped", call);
  assert.equal(writtenOn(host.machine.vmm("stopped")), OLDER_DISKS[OLDER_SNAPSHOTS["disk-alone"]]);
});

test("templates of an older Hearth are passed over if the machine is another, and can be removed", async (t) => {
  const { host, vms, templates, snapshots } = await open(t);
  await vms.create({ name: parseVmName("new"), image: "debian" }, false, vms.background());
  await vms.start("new", vms.background());
  assert.ok(!host.driver.calls.some((call) => call.startsWith("restore")));
  await snapshots.remove(OLDER_TEMPLATES[0], "warm");
  await templates.prune();
  assert.deepEqual(
    templates.list().filter(({ id }) => OLDER_TEMPLATES.some((older) => older === id)),
    [],
  );
});

/** The expected state for each store of a crash, once its flow is undone or finished. */
const CRASHES = {
  create: { lines: 6, early: PHASES, late: { ...PHASES, half: "created" } },
  start: { lines: 13, late: PHASES },
  resume: { lines: 11, late: PHASES },
  stop: { lines: 9, late: PHASES },
  suspend: { lines: 3, late: { ...PHASES, resumed: "suspended" } },
  snapshot: { lines: 15, late: PHASES },
  settle: { lines: 9, late: PHASES },
  remove: {
    lines: 13,
    late: Object.fromEntries(Object.entries(PHASES).filter(([name]) => name !== "from-memory")),
  },
} as const;

/** The lines after which hearthd may have crashed: the beginning of each step, which is each odd line, and the end. */
function begun(lines: number): number[] {
  const all = Array.from({ length: lines }, (_, at) => at + 1);
  return all.filter((line) => line % 2 === 1 || line === lines);
}

describe("a flow that an older Hearth was killed in", () => {
  for (const [crashed, { lines, late, ...more }] of Object.entries(CRASHES)) {
    for (const steps of begun(lines)) {
      test(`${crashed}: is undone or finished after ${steps} lines of its journal`, async (t) => {
        const { host } = await open(t, crashed, steps);
        assert.deepEqual(phases(host), steps === lines || !("early" in more) ? late : more.early);
        assert.deepEqual(host.journals.listOpen(), []);
        assert.deepEqual(host.store.listEphemeral(), []);
        assert.deepEqual(
          host.machine.events.filter(({ name }) => name === "flow.failed"),
          [],
        );
        const names = host.snapshots.list().flatMap(({ name = [] }) => name);
        assert.deepEqual(names, ["disk-alone", "with-memory"]);
        assert.deepEqual(host.machine.isolation.leftovers(), []);
      });
    }
  }
});
