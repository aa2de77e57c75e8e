/**
 * Kills hearthd, and makes one effect of the next hearthd's recovery fail: that one starts, and the one after it
 * recovers all.
 */
import assert from "node:assert/strict";
import { parseSnapshotName } from "#model/ids.ts";
import { failRecoveryTest } from "#testing/crash-story.ts";
import type { FakeDaemon } from "#testing/fake-daemon.ts";
import { writtenOn } from "#testing/fake-guest.ts";
import { LAYERED } from "#testing/fake-host.ts";

const NAME = parseSnapshotName("s1");
const STOP = { mode: "graceful", timeoutMs: 1_000 } as const;

const creates = ({ vms }: FakeDaemon): Promise<unknown> =>
  vms.create({ name: "web", image: "debian" }, false, vms.background());
const runs = (daemon: FakeDaemon): Promise<unknown> => daemon.run("web", 2);
const starts = ({ vms }: FakeDaemon): Promise<unknown> => vms.start("web", vms.background());
const stops = ({ vms }: FakeDaemon): Promise<unknown> => vms.stop("web", STOP, vms.background());
const suspends = ({ snapshots, vms }: FakeDaemon): Promise<unknown> =>
  snapshots.suspend("web", vms.background());

function hasWritten(...times: readonly number[]) {
  return ({ host }: FakeDaemon): void => {
    if (host.store.findVm("web") === undefined) return;
    const written = writtenOn(host.machine.vmm("web"));
    assert.ok(times.includes(written), `${written} times was written to its disk`);
  };
}

failRecoveryTest("a recovery that fails once forgets no creation that was to be undone", {
  before: async () => {},
  act: creates,
  includes: ["store.insertVm", "files.makeDir", "disks.create"],
});

failRecoveryTest("a recovery that fails once forgets no start that was to be undone", {
  before: async (daemon) => {
    await runs(daemon);
    await stops(daemon);
  },
  act: starts,
  includes: ["store.setState", "helper.leaseUid", "driver.boot"],
  resumed: hasWritten(2),
});

failRecoveryTest("a recovery that fails once forgets no stop or removal that was to be finished", {
  before: runs,
  act: async (daemon) => {
    await stops(daemon);
    await daemon.vms.remove("web", false, daemon.vms.background());
  },
  includes: ["store.setState", 'journal: stop, "ask the guest" done', "files.removeTree"],
  resumed: hasWritten(2),
});

for (const features of [undefined, LAYERED]) {
  const disk = features === undefined ? "one file" : "layers";
  failRecoveryTest(`a recovery that fails once keeps a suspended VM with its disk in ${disk}`, {
    options: { features: features ?? {} },
    before: runs,
    act: async (daemon) => {
      await suspends(daemon);
      await starts(daemon);
    },
    includes: ["disks.commitResumeOverlay", "driver.stop", "driver.restore", "guest.configure"],
    resumed: hasWritten(2),
  });
}

failRecoveryTest("a recovery that fails once forgets no restore that is pending", {
  before: async (daemon) => {
    await daemon.run("web", 1);
    await daemon.snapshots.create("web", { kind: "named", name: NAME }, daemon.vms.background());
    daemon.work("web", 2);
  },
  act: ({ snapshots, vms }) => snapshots.restore(NAME, vms.background()),
  includes: ["driver.stop", "store.setSpec", "disks: removed the old one", "driver.restore"],
  resumed: hasWritten(1, 3),
});
