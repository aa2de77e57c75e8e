import assert from "node:assert/strict";
import { forkVm } from "#daemon/snapshot/fork-vm.ts";
import { parseSnapshotName } from "#model/ids.ts";
import { crashTwiceTest } from "#testing/crash-story.ts";
import type { FakeDaemon } from "#testing/fake-daemon.ts";
import { writtenOn } from "#testing/fake-guest.ts";
import { LAYERED } from "#testing/fake-host.ts";

function promiseOf(what: string): string {
  return `killing hearthd while it recovers from ${what}: the next one recovers it all`;
}

const NAME = parseSnapshotName("s1");
const webRuns = (daemon: FakeDaemon): Promise<unknown> => daemon.run("web", 2);

async function webIsSaved(daemon: FakeDaemon): Promise<void> {
  const { snapshots, vms } = daemon;
  await webRuns(daemon);
  await snapshots.create("web", { kind: "named", name: NAME }, vms.background());
}

async function webSuspends(daemon: FakeDaemon): Promise<void> {
  await webRuns(daemon);
  await daemon.snapshots.suspend("web", daemon.vms.background());
}

function diskIsWhole({ host }: FakeDaemon): void {
  assert.equal(writtenOn(host.machine.vmm("web")), 2);
}

crashTwiceTest(promiseOf("a snapshot"), {
  before: webRuns,
  act: ({ snapshots, vms }) =>
    snapshots.create("web", { kind: "named", name: NAME, verify: true }, vms.background()),
  includes: [
    "snapshots.insert",
    "driver, save: memory written",
    "driver, finalize: loaded",
    "driver.restore",
    "snapshots.setReady",
  ],
  resumed: diskIsWhole,
});

crashTwiceTest(promiseOf("a suspend"), {
  before: webRuns,
  act: ({ snapshots, vms }) => snapshots.suspend("web", vms.background()),
  includes: [
    "driver, save: memory written",
    "disks.commitResumeOverlay",
    "store.setState",
    "journal: stop begins",
    "driver.stop",
  ],
  resumed: diskIsWhole,
});

for (const features of [undefined, LAYERED]) {
  crashTwiceTest(promiseOf(`a resume with a disk in ${features === undefined ? "one file" : "layers"}`), {
    options: { features: features ?? {} },
    before: webSuspends,
    act: ({ vms }) => vms.start("web", vms.background()),
    includes: [
      "store.setState",
      "journal: start begins",
      "driver.restore",
      "guest.configure",
      'journal: start, "commit" done',
      "snapshots.unlist",
    ],
    resumed: diskIsWhole,
  });
}

crashTwiceTest(promiseOf("a fork"), {
  before: webRuns,
  act: (daemon) => forkVm(daemon, "web", { count: 2 }, daemon.vms.background()),
  includes: ["driver, save: memory written", "driver.restore", "store.keepVm", "snapshots.unlist"],
  resumed: diskIsWhole,
});

crashTwiceTest(promiseOf("a restore"), {
  before: webIsSaved,
  act: ({ snapshots, vms }) => snapshots.restore(NAME, vms.background()),
  includes: ["driver.stop", "disks: removed the old one", "driver.restore", "store.setSpec"],
  resumed: diskIsWhole,
});

crashTwiceTest(promiseOf("a template"), {
  options: { config: "warm.enabled = true" },
  before: webRuns,
  act: async ({ templates, vms, host }) => templates.build(host.store.getVm("web"), vms.background()),
  includes: [
    "driver.boot",
    "driver, save: memory written",
    "driver, finalize: loaded",
    "driver.restore",
    "snapshots.setReady",
  ],
  resumed: diskIsWhole,
});
