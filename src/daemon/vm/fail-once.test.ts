/** Each effect of an action fails once, in a hearthd that lives on: nothing is lost, and nothing runs twice. */
import assert from "node:assert/strict";
import { parseSnapshotName } from "#model/ids.ts";
import { failTest } from "#testing/crash-story.ts";
import type { FakeDaemon } from "#testing/fake-daemon.ts";
import { writtenOn } from "#testing/fake-guest.ts";
import { LAYERED } from "#testing/fake-host.ts";

const NAME = parseSnapshotName("s1");
const STOP = { mode: "kill", timeoutMs: 0 } as const;

const creates = ({ vms }: FakeDaemon): Promise<unknown> =>
  vms.create({ name: "web", image: "debian" }, false, vms.background());
const starts = ({ vms }: FakeDaemon): Promise<unknown> => vms.start("web", vms.background());
const stops = ({ vms }: FakeDaemon): Promise<unknown> => vms.stop("web", STOP, vms.background());
const suspends = ({ snapshots, vms }: FakeDaemon): Promise<unknown> =>
  snapshots.suspend("web", vms.background());

async function hasStopped(daemon: FakeDaemon): Promise<void> {
  await daemon.run("web", 2);
  await stops(daemon);
}

async function isSuspended(daemon: FakeDaemon): Promise<void> {
  await daemon.run("web", 2);
  await suspends(daemon);
}

/** A snapshot of one write, and a copy that is made from it. */
async function hasCopy(daemon: FakeDaemon): Promise<void> {
  const { snapshots, vms } = daemon;
  await daemon.run("web", 1);
  await snapshots.create("web", { kind: "named", name: NAME }, vms.background());
  await vms.create({ name: "copied", snapshot: NAME }, false, vms.background());
}

async function isSaved(daemon: FakeDaemon): Promise<void> {
  await daemon.run("web", 1);
  await daemon.snapshots.create("web", { kind: "named", name: NAME }, daemon.vms.background());
  daemon.work("web", 2);
}

function hasWritten(name: string, ...times: readonly number[]) {
  return ({ host }: FakeDaemon): void => {
    const written = writtenOn(host.machine.vmm(name));
    assert.ok(times.includes(written), `${written} times was written to the disk of ${name}`);
  };
}

failTest("a creation of which anything fails leaves the VM or nothing", {
  before: async () => {},
  act: creates,
  includes: [],
});

failTest("a first start of which anything fails leaves a VM that can start, with one VMM at most", {
  before: creates,
  act: starts,
  includes: [],
});

failTest("a start of which anything fails keeps the VM's disk", {
  before: hasStopped,
  act: starts,
  includes: [],
  awake: hasWritten("web", 2),
});

failTest("a stop of which anything fails keeps the VM's disk", {
  before: (daemon) => daemon.run("web", 2),
  act: stops,
  includes: [],
  awake: hasWritten("web", 2),
});

failTest("a removal of which anything fails leaves the VM or nothing", {
  before: hasStopped,
  act: ({ vms }) => vms.remove("web", false, vms.background()),
  includes: [],
});

for (const [what, options] of [
  ["in one file", undefined],
  ["in layers", { features: LAYERED }],
] as const) {
  failTest(`a VM with its disk ${what} that was made from a snapshot never starts without it`, {
    options,
    before: hasCopy,
    act: ({ vms }) => vms.start("copied", vms.background()),
    includes: [],
    awake: hasWritten("copied", 1),
  });

  failTest(
    `a restore with the disk ${what} of which anything fails leaves the VM as it was, or is finished`,
    {
      options,
      before: isSaved,
      act: ({ snapshots, vms }) => snapshots.restore(NAME, vms.background()),
      includes: [],
      awake: hasWritten("web", 1, 3),
    },
  );

  failTest(`a resume with the disk ${what} of which anything fails keeps the VM's disk`, {
    options,
    before: isSuspended,
    act: starts,
    includes: [],
    awake: hasWritten("web", 2),
  });
}

failTest("a suspension of which anything fails keeps the VM's disk", {
  before: (daemon) => daemon.run("web", 2),
  act: suspends,
  includes: [],
  awake: hasWritten("web", 2),
});
