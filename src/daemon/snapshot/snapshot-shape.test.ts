import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { errorChain } from "#base/error.ts";
import { assertCompatible, withKey } from "#daemon/snapshot/snapshot-shape.ts";
import { parseSnapshotName } from "#model/ids.ts";
import type { Shape, SnapshotRecord } from "#model/snapshot.ts";
import { assertRuns } from "#testing/crash-story.ts";
import { useFakeDaemon } from "#testing/fake-daemon.ts";
import type { FakeDaemon } from "#testing/fake-daemon.ts";

const NAME = parseSnapshotName("s1");
const VM = { kernel: "sha256:1", cpus: "2", memory: "512", init: "agent" };
const SAVED = withKey({ driver: "fake", vmm: "fake 1.0.0, some CPU", vm: VM });

function vmmFingerprint(now: Omit<Shape, "key">): string {
  try {
    assertCompatible({ name: NAME, id: "sn-aaaaaaaaaaaa", shape: SAVED } as SnapshotRecord, withKey(now));
    return "fits";
  } catch (error) {
    return errorChain(error);
  }
}

describe("a snapshot is compatible", () => {
  const MISFITS: readonly [what: string, now: Partial<Omit<Shape, "key">>, told: RegExp][] = [
    ["the same", {}, /^fits$/],
    ["no other driver", { driver: "other" }, /s1: it was saved with the driver fake; here it is other/],
    [
      "no other VMM",
      { vmm: "fake 1.0.1, some CPU" },
      /the VMM fake 1\.0\.0, some CPU; here it is fake 1\.0\.1/,
    ],
    ["no other kernel", { vm: { ...VM, kernel: "sha256:2" } }, /kernel sha256:1; here it is sha256:2/],
    ["no other number of CPUs", { vm: { ...VM, cpus: "4" } }, /cpus 2; here it is 4/],
    ["no other memory", { vm: { ...VM, memory: "256" } }, /memory 512; here it is 256/],
    ["nothing that is new since", { vm: { ...VM, clock: "fast" } }, /clock unknown; here it is fast/],
  ];
  for (const [what, now, told] of MISFITS)
    test(what, () =>
      assert.match(vmmFingerprint({ driver: SAVED.driver, vmm: SAVED.vmm, vm: VM, ...now }), told),
    );
});

/** Makes a snapshot of a running `web`, and a `copy` of it that has not been started. */
async function savedWith(daemon: FakeDaemon): Promise<void> {
  const { snapshots, vms } = daemon;
  await daemon.run("web", 1);
  await snapshots.create("web", { kind: "named", name: NAME }, vms.background());
  await vms.create({ name: "copy", snapshot: NAME }, false, vms.background());
}

type Change = (daemon: FakeDaemon) => unknown;
const CHANGES: Readonly<Record<string, { change: Change; told: RegExp }>> = {
  "another VMM": {
    change: ({ host: { driver } }) => {
      const { snapshots } = driver.description;
      assert.ok(snapshots);
      driver.description = {
        ...driver.description,
        snapshots: { ...snapshots, vmmFingerprint: "fake 1.0.1" },
      };
    },
    told: /the VMM fake 1\.0\.0; here it is fake 1\.0\.1/,
  },
  "another kernel": {
    change: ({ host }) => (host.bootFiles = { ...host.bootFiles, kernelDigest: "sha256:other" }),
    told: /kernel sha256:kernel; here it is sha256:other/,
  },
  "another agent": {
    change: ({ host }) => (host.bootFiles = { ...host.bootFiles, initramfs: "/initramfs-2" }),
    told: /initramfs initramfs-1; here it is initramfs-2/,
  },
};

for (const [what, { change, told }] of Object.entries(CHANGES)) {
  test(`with ${what} nothing is loaded, started or ended, and the error says what differs`, async (t) => {
    const daemon = await useFakeDaemon(t);
    const { host, vms, snapshots } = daemon;
    await savedWith(daemon);
    change(daemon);
    host.driver.calls.length = 0;
    const mismatch = { code: "snapshot.mismatch", message: told, hint: /--cold/ } as const;
    await assert.rejects(vms.start("copy", vms.background()), mismatch);
    await assert.rejects(snapshots.restore(NAME, vms.background()), mismatch);
    assert.deepEqual(host.driver.calls, []);
    assert.equal(host.machine.vmms.running().length, 1);
    await assertRuns(daemon, "web");
    await daemon.run("cold", 0, { snapshot: NAME, cold: true });
    await assertRuns(daemon, "cold");
  });

  test(`with ${what} a VM stays suspended until the host is again as it was`, async (t) => {
    const daemon = await useFakeDaemon(t);
    const { host, vms, snapshots } = daemon;
    await savedWith(daemon);
    await snapshots.suspend("web", vms.background());
    const before = { description: host.driver.description, bootFiles: host.bootFiles };
    change(daemon);
    await assert.rejects(vms.start("web", vms.background()), { code: "snapshot.mismatch", message: told });
    assert.equal(host.store.getVm("web").state.phase, "suspended");
    host.driver.description = before.description;
    host.bootFiles = before.bootFiles;
    await vms.start("web", vms.background());
    assert.equal(host.machine.vmm("web").count, 1);
  });
}

test("a VM with other sizes than its snapshot gets an error that names them", async (t) => {
  const daemon = await useFakeDaemon(t);
  await savedWith(daemon);
  const { vms } = daemon;
  const call = vms.background();
  for (const [change, told] of [
    [{ cpus: 4 }, /cpus 2; here it is 4/],
    [{ cpus: 2, memoryBytes: 2 ** 30 }, /memory 2147483648; here it is 1073741824/],
    [{ memoryBytes: 2 ** 31, diskBytes: 2 ** 34 }, /disk 8589934592; here it is 17179869184/],
  ] as const) {
    await vms.set("copy", change, call);
    await assert.rejects(vms.start("copy", call), { code: "snapshot.mismatch", message: told });
  }
});
