import assert from "node:assert/strict";
import { crashTest } from "#testing/crash-story.ts";
import type { FakeDaemon } from "#testing/fake-daemon.ts";
import { letWork, writtenOn } from "#testing/fake-guest.ts";
import { LAYERED } from "#testing/fake-host.ts";
import type { FakeMachine } from "#testing/fake-host.ts";

const webRuns = (daemon: FakeDaemon): Promise<unknown> => daemon.run("web", 2);
const suspends = ({ snapshots, vms }: FakeDaemon): Promise<unknown> =>
  snapshots.suspend("web", vms.background());
const starts = ({ vms }: FakeDaemon): Promise<unknown> => vms.start("web", vms.background());

async function webSuspends(daemon: FakeDaemon): Promise<void> {
  await webRuns(daemon);
  await suspends(daemon);
}

/** Checks the phase; a VM that has failed says that its memory is lost. */
function webIsOneOf(...phases: readonly string[]) {
  return ({ host }: FakeDaemon): void => {
    const { state } = host.store.getVm("web");
    assert.ok(phases.includes(state.phase), `${state.phase} is none of ${phases.join(", ")}`);
    if (state.phase === "failed") assert.match(state.message, /guest memory of the suspended VM is lost/);
  };
}

/** Checks that all that the guest wrote before its suspend is on its disk. */
function diskIsWhole({ host }: FakeDaemon): void {
  assert.ok(writtenOn(host.machine.vmm("web")) >= 2);
}

/** Checks the disk, and the guest's memory. */
function guestIsWhole(daemon: FakeDaemon): void {
  diskIsWhole(daemon);
  assert.ok(daemon.host.machine.vmm("web").count >= 2);
}

/** A kernel that runs writes to its journal, also while its guest's processes are frozen. */
function writesWhenRestored(effect: string, machine: FakeMachine): void {
  if (effect === "driver.restore") letWork(machine.vmm("web"), "the kernel");
}

const SUSPENSION = [
  'journal: snapshot, "save" started',
  "driver, save: memory written",
  "journal: snapshot ends",
  "disks.commitResumeOverlay",
  "store.setState",
  "journal: stop begins",
  "driver.stop",
  "journal: stop ends",
];

for (const [format, features] of [
  ["one file", undefined],
  ["layers", LAYERED],
] as const) {
  const options = { features };

  crashTest(
    `killing hearthd while it suspends a VM with a disk in ${format} leaves it running or suspended`,
    {
      options,
      before: webRuns,
      act: suspends,
      includes: [...SUSPENSION, "guest.freeze", "driver.pause"],
      after: webIsOneOf("running", "suspended"),
      resumed: guestIsWhole,
    },
  );

  crashTest(
    `killing hearthd while it resumes a VM with a disk in ${format}: the VM runs, is suspended, or its memory is lost and that is said`,
    {
      options,
      before: webSuspends,
      act: starts,
      meanwhile: writesWhenRestored,
      includes: [
        "store.setState",
        "journal: start begins",
        'journal: start, "boot" started',
        "driver.restore",
        "guest.configure",
        'journal: start, "commit" done',
        "snapshots.unlist",
        "files.removeTree",
        "snapshots.delete",
      ],
      after:
        format === "layers"
          ? webIsOneOf("running", "suspended")
          : webIsOneOf("running", "suspended", "failed"),
      resumed: format === "layers" ? guestIsWhole : diskIsWhole,
    },
  );

  crashTest(
    `killing hearthd while it resumes a VM with a disk in ${format} leaves the disk whole, also when the memory is deleted then`,
    {
      options,
      before: webSuspends,
      act: starts,
      includes: ["driver.restore"],
      after: async ({ host, vms }) => {
        const { phase } = host.store.getVm("web").state;
        if (phase === "suspended") await vms.kill("web", "kill", vms.background());
      },
      resumed: diskIsWhole,
    },
  );

  crashTest(
    `killing hearthd while it deletes the memory of a VM with a disk in ${format} leaves it suspended or stopped`,
    {
      options,
      before: webSuspends,
      act: ({ vms }) => vms.kill("web", "kill", vms.background()),
      includes: ["store.setState", "snapshots.unlist"],
      after: webIsOneOf("suspended", "stopped"),
      resumed: diskIsWhole,
    },
  );

  crashTest(
    `killing hearthd while it removes a suspended VM with a disk in ${format} leaves it complete or absent`,
    {
      options,
      before: webSuspends,
      act: ({ vms }) => vms.remove("web", false, vms.background()),
      includes: ["snapshots.unlist", "store.deleteVm"],
      after: ({ host }) => {
        const vm = host.store.findVm("web");
        if (vm !== undefined) assert.equal(vm.state.phase, "suspended");
      },
    },
  );
}

crashTest("killing hearthd while it suspends a paused VM leaves it paused or suspended", {
  options: { features: LAYERED },
  before: async (daemon) => {
    await webRuns(daemon);
    await daemon.vms.pause("web", daemon.vms.background());
  },
  act: suspends,
  includes: SUSPENSION,
  after: webIsOneOf("paused", "running", "suspended"),
  resumed: guestIsWhole,
});

crashTest("killing hearthd during a second suspend leaves the VM running or suspended", {
  options: { features: LAYERED },
  before: async (daemon) => {
    await webSuspends(daemon);
    await starts(daemon);
  },
  act: suspends,
  includes: SUSPENSION,
  after: webIsOneOf("running", "suspended"),
  resumed: guestIsWhole,
});
