import assert from "node:assert/strict";
import { parseSnapshotName } from "#model/ids.ts";
import { crashTest } from "#testing/crash-story.ts";
import type { FakeDaemon } from "#testing/fake-daemon.ts";
import { writtenOn } from "#testing/fake-guest.ts";
import { Gate } from "#testing/gate.ts";

const NAME = parseSnapshotName("s1");

const webRuns = (daemon: FakeDaemon): Promise<unknown> => daemon.run("web", 2);

async function webIsPaused(daemon: FakeDaemon): Promise<void> {
  await webRuns(daemon);
  await daemon.vms.pause("web", daemon.vms.background());
}

async function webHasStopped(daemon: FakeDaemon): Promise<void> {
  await webRuns(daemon);
  await daemon.vms.stop("web", { mode: "kill", timeoutMs: 0 }, daemon.vms.background());
}

function takes(more: { diskOnly?: boolean; verify?: boolean }) {
  return async ({ snapshots, vms }: FakeDaemon): Promise<void> => {
    const options = { kind: "named", name: NAME, ...more } as const;
    await snapshots.create("web", options, vms.background());
  };
}

function webIs(phase: string) {
  return ({ host }: FakeDaemon): void => {
    assert.equal(host.store.getVm("web").state.phase, phase);
    const [snapshot, ...others] = host.snapshots.list();
    assert.deepEqual(others, []);
    if (snapshot !== undefined) assert.equal(snapshot.name, NAME);
    if (phase !== "stopped") assert.equal(writtenOn(host.machine.vmm("web")), 2);
  };
}

crashTest("killing hearthd during a snapshot leaves the VM running, and the snapshot complete or absent", {
  before: webRuns,
  act: takes({ verify: true }),
  includes: [
    'journal: snapshot, "save" started',
    "guest.freeze",
    "driver, save: paused",
    "driver, save: memory written",
    "disks.freeze",
    "driver.save",
    "guest.thaw",
    "driver, finalize: loaded",
    "driver.finalize",
    "helper.sealMemory",
    "driver.restore",
    "snapshots.setReady",
    "journal: snapshot ends",
  ],
  after: webIs("running"),
});

crashTest("killing hearthd during a snapshot of a paused VM leaves it paused, with its processes thawed", {
  before: webIsPaused,
  act: takes({}),
  includes: ["driver.resume", "guest.freeze", "driver.pause", "driver.save"],
  after: webIs("paused"),
});

crashTest("killing hearthd during a snapshot of the disk alone leaves the VM running", {
  before: webRuns,
  act: takes({ diskOnly: true }),
  includes: ["guest.freeze", "driver.pause", "disks.freeze", "driver.resume", "guest.thaw"],
  after: webIs("running"),
});

crashTest("killing hearthd during a snapshot of a stopped VM leaves it stopped", {
  before: webHasStopped,
  act: takes({}),
  includes: ["disks.freeze"],
  after: webIs("stopped"),
});

crashTest("killing hearthd while it removes a snapshot leaves it complete or absent", {
  before: async (daemon) => {
    await webRuns(daemon);
    await takes({})(daemon);
  },
  act: async ({ snapshots }) => snapshots.remove(NAME),
  includes: ["snapshots.unlist", "files.removeTree", "snapshots.delete"],
  after: webIs("running"),
});

crashTest(
  "killing hearthd while it stops a VM whose snapshot is being verified leaves each of the two done or undone",
  {
    before: webRuns,
    act: async ({ host, snapshots, vms }) => {
      const gate = new Gate();
      host.driver.faults.finalizeGate = gate;
      const taking = snapshots.create("web", { kind: "named", name: NAME }, vms.background());
      taking.catch(() => {}); // It ends with hearthd, maybe before it is awaited.
      await Promise.race([gate.reached, taking]);
      assert.equal(host.journals.listOpen().filter(({ kind }) => kind === "snapshot").length, 1);
      await vms.stop("web", { mode: "graceful", timeoutMs: 1_000 }, vms.background());
      gate.open();
      await taking;
    },
    includes: ['journal: stop, "ask the guest" started', 'journal: snapshot, "finalize" done'],
    after: ({ host }) => {
      for (const { name, ready } of host.snapshots.list()) assert.deepEqual([name, ready], [NAME, true]);
    },
    resumed: ({ host }) => assert.equal(writtenOn(host.machine.vmm("web")), 2),
  },
);
