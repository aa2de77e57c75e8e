import assert from "node:assert/strict";
import { parseSnapshotName } from "#model/ids.ts";
import { crashTest } from "#testing/crash-story.ts";
import type { FakeDaemon } from "#testing/fake-daemon.ts";
import { writtenOn } from "#testing/fake-guest.ts";
import { LAYERED } from "#testing/fake-host.ts";

const NAME = parseSnapshotName("s1");
const STOP = { mode: "kill", timeoutMs: 0 } as const;

/** Makes a snapshot of a VM that has written twice, and removes the VM. */
async function makeSnapshot(daemon: FakeDaemon): Promise<void> {
  const { snapshots, vms } = daemon;
  await daemon.run("source", 2);
  await snapshots.create("source", { kind: "named", name: NAME }, vms.background());
  await vms.remove("source", true, vms.background());
}

/** Has `web` write twice, and stops it. */
async function hasStopped(daemon: FakeDaemon): Promise<void> {
  await daemon.run("web", 2);
  await daemon.vms.stop("web", STOP, daemon.vms.background());
}

const written =
  (...times: readonly number[]) =>
  ({ host }: FakeDaemon): void => {
    if (host.store.findVm("web") === undefined) return;
    const found = writtenOn(host.machine.vmm("web"));
    assert.ok(times.includes(found), `${found} times its disk was written`);
  };

for (const [format, features] of [
  ["one file", undefined],
  ["layers", LAYERED],
] as const) {
  crashTest(
    `killing hearthd while a VM starts from a snapshot with a disk in ${format}: its first start still begins there`,
    {
      options: { features: features ?? {} },
      before: makeSnapshot,
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

crashTest("killing hearthd while a VM starts loses nothing of its disk, also where a template would fit", {
  options: { config: "warm.enabled = true" },
  before: async (daemon) => {
    await hasStopped(daemon);
    const { vms, templates, host } = daemon;
    await templates.build(host.store.getVm("web"), vms.background());
    await templates.idle();
  },
  act: ({ vms }) => vms.start("web", vms.background()),
  includes: ["store.setState", "journal: start begins", "driver.boot", "guest.configure"],
  resumed: written(2),
});

crashTest("killing hearthd during a fresh start leaves the VM a disk: the old one, or an empty one", {
  before: async (daemon) => {
    await daemon.run("web", 2);
    await daemon.snapshots.suspend("web", daemon.vms.background());
  },
  act: ({ vms }) => vms.start("web", vms.background(), { fresh: true }),
  includes: ["snapshots.unlist", "disks.create", "driver.boot"],
  resumed: written(0, 2),
});
