/** Makes each effect of every flow fail once, in a hearthd that lives on: nothing is lost, and nothing runs twice. */
import assert from "node:assert/strict";
import { parseSnapshotName } from "#model/ids.ts";
import { failTest } from "#testing/crash-story.ts";
import type { FakeDaemon } from "#testing/fake-daemon.ts";
import { writtenOn } from "#testing/fake-guest.ts";
import { LAYERED } from "#testing/fake-host.ts";
import { FLOW_STORIES } from "#testing/flow-stories.ts";

const NAME = parseSnapshotName("s1");

/** Makes a snapshot after one write, and a copy from it. */
async function hasCopy(daemon: FakeDaemon): Promise<void> {
  const { snapshots, vms } = daemon;
  await daemon.run("web", 1);
  await snapshots.create("web", { kind: "named", name: NAME }, vms.background());
  await vms.create({ name: "copied", snapshot: NAME }, false, vms.background());
}

function copyHasWritten({ host }: FakeDaemon): void {
  assert.equal(writtenOn(host.machine.vmm("copied")), 1, "it has the disk of the snapshot");
}

for (const story of FLOW_STORIES)
  failTest(`${story.what} of which anything fails is done or undone, and keeps the VM's disk`, story);

for (const [what, options] of [
  ["in one file", undefined],
  ["in layers", { features: LAYERED }],
] as const) {
  failTest(`a VM with its disk ${what} that was made from a snapshot never starts without it`, {
    options,
    before: hasCopy,
    act: ({ vms }) => vms.start("copied", vms.background()),
    includes: [],
    resumed: copyHasWritten,
  });
}

// The table has one format; this is the other one.
for (const [what, where, options] of [
  ["a resume", "in one file", undefined],
  ["a restore", "in layers", { features: LAYERED }],
] as const) {
  const story = FLOW_STORIES.find((one) => one.what === what);
  assert.ok(story);
  failTest(`${what} of a VM with its disk ${where} of which anything fails is done or undone`, {
    ...story,
    options,
  });
}
