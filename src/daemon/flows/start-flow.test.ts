import assert from "node:assert/strict";
import { parseSnapshotName } from "#model/ids.ts";
import { crashTest } from "#testing/crash-story.ts";
import type { FakeDaemon } from "#testing/fake-daemon.ts";
import { writtenOn } from "#testing/fake-guest.ts";
import { LAYERED } from "#testing/fake-host.ts";

const NAME = parseSnapshotName("s1");
const STOP = { mode: "kill", timeoutMs: 0 } as const;

/** A snapshot of a VM that had written twice, and is gone. */
async function isSaved(daemon: FakeDaemon): Promise<void> {
  const { snapshots, vms } = daemon;
  await daemon.run("source", 2);
  await snapshots.create("source", { kind: "named", name: NAME }, vms.background());
  await vms.remove("source", true, vms.background());
}

/** `web` has written twice, and has stopped. */
async function hasStopped(daemon: FakeDaemon): Promise<void> {
  await daemon.run("web", 2);
  await daemon.vms.stop("web", STOP, daemon.vms.background());
}

const written =
  (...times: readonly number[]) =>
  ({ host }: FakeDaemon): void => {
    if (host.store.findVm("web") === undefined) return;
    const found = writtenOn(host.machine.vmm("web"));
    assert.ok(times.includes(found), `${found} times was written to its disk`);
  };

for (const [format, features] of [
  ["one file", undefined],
  ["layers", LAYERED],
] as const) {
  crashTest(
    `R5: a hearthd killed while a VM begins as a snapshot with a disk in ${format} has it begin as that, and as nothing else`,
    {
      options: { features: features ?? {} },
      before: isSaved,
      act: (daemon) => daemon.run("web", 0, { snapshot: NAME }),
      includes: [
        "disks.fromSnapshot",
        "driver.restore",
        "guest.configure",
        "store.setSpec",
        "store.setState",
      ],
      resumed: written(2),
    },
  );
}

crashTest("L1: a hearthd killed while a VM starts loses nothing of its disk, whatever templates there are", {
  options: { config: "warm.enabled = true" },
  before: async (daemon) => {
    await hasStopped(daemon);
    const { vms, warm, host } = daemon;
    await warm.build(host.store.getVm("web"), vms.background());
    await warm.idle();
  },
  act: ({ vms }) => vms.start("web", vms.background()),
  includes: ["store.setState", "journal: start begins", "driver.boot", "guest.configure"],
  resumed: written(2),
});

crashTest("L1: a hearthd killed while a VM begins anew leaves it a disk: the old one, or a new one", {
  before: async (daemon) => {
    await daemon.run("web", 2);
    await daemon.snapshots.suspend("web", daemon.vms.background());
  },
  act: ({ vms }) => vms.start("web", vms.background(), { fresh: true }),
  includes: ["snapshots.unlist", "disks.create", "driver.boot"],
  resumed: written(0, 2),
});
