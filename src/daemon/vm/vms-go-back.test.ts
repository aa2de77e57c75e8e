import assert from "node:assert/strict";
import { parseSnapshotName } from "#model/ids.ts";
import { crashTest } from "#testing/crash-story.ts";
import type { FakeDaemon } from "#testing/fake-daemon.ts";
import { writtenOn } from "#testing/fake-guest.ts";

const NAME = parseSnapshotName("s1");

/** Makes a snapshot of a VM that has written once, and has it write twice more. */
function saved(diskOnly: boolean, then: (daemon: FakeDaemon) => unknown = () => {}) {
  return async (daemon: FakeDaemon): Promise<void> => {
    const { snapshots, vms } = daemon;
    await daemon.run("web", 1);
    await snapshots.create("web", { kind: "named", name: NAME, diskOnly }, vms.background());
    daemon.work("web", 2);
    await then(daemon);
  };
}

const restores = ({ snapshots, vms }: FakeDaemon): Promise<unknown> =>
  snapshots.restore(NAME, vms.background());

function snapshotIsThere({ host }: FakeDaemon): void {
  assert.deepEqual(host.snapshots.get(NAME).name, NAME);
}

/** Checks that the disk is the snapshot's, or as it was; never another one. */
function diskIsOneOfTwo({ host }: FakeDaemon): void {
  const written = writtenOn(host.machine.vmm("web"));
  assert.ok(written === 1 || written === 3, `${written} times was written to its disk`);
}

const STOP = { mode: "kill", timeoutMs: 0 } as const;

for (const [what, then] of [
  ["runs", () => {}],
  ["is paused", ({ vms }) => vms.pause("web", vms.background())],
  ["has stopped", ({ vms }) => vms.stop("web", STOP, vms.background())],
  ["sleeps", ({ snapshots, vms }) => snapshots.suspend("web", vms.background())],
] as const satisfies readonly (readonly [string, (daemon: FakeDaemon) => unknown])[]) {
  crashTest(
    `killing hearthd while a VM that ${what} is restored leaves the snapshot and one of the two states`,
    {
      before: saved(false, then),
      act: restores,
      includes: ["disks.fromSnapshot", "driver.restore", "guest.configure"],
      after: snapshotIsThere,
      resumed: diskIsOneOfTwo,
    },
  );

  crashTest(
    `killing hearthd while the disk of a VM that ${what} is restored leaves the snapshot and one of the two disks`,
    {
      before: saved(true, then),
      act: restores,
      includes: ["disks.fromSnapshot"],
      after: snapshotIsThere,
      resumed: diskIsOneOfTwo,
    },
  );
}
