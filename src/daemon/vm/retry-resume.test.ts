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

/** Where it is not the same guest any more, that is said. */
function webIsOneOf(...phases: readonly string[]) {
  return ({ host }: FakeDaemon): void => {
    const { state } = host.store.getVm("web");
    assert.ok(phases.includes(state.phase), `${state.phase} is none of ${phases.join(", ")}`);
    if (state.phase === "failed") assert.match(state.message, /what it had in memory is lost/);
  };
}

/** All that its guest wrote before it slept is there. */
function diskIsWhole({ host }: FakeDaemon): void {
  assert.ok(writtenOn(host.machine.vmm("web")) >= 2);
}

/** The same, and what it had in memory. */
function guestIsWhole(daemon: FakeDaemon): void {
  diskIsWhole(daemon);
  assert.ok(daemon.host.machine.vmm("web").count >= 2);
}

/** A kernel that goes on writes its journal, whatever is held in its guest. */
function writesWhenItWakes(effect: string, machine: FakeMachine): void {
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
    `R5: a hearthd killed while it suspends a VM with a disk in ${format} finds it running or asleep`,
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
    `R5: a hearthd killed while a VM with a disk in ${format} wakes finds it awake, asleep, or says that its memory is lost`,
    {
      options,
      before: webSuspends,
      act: starts,
      meanwhile: writesWhenItWakes,
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
    `R5: a hearthd killed while a VM with a disk in ${format} wakes leaves its disk whole, also when its memory is given up then`,
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
    `R5: a hearthd killed while it gives up the memory of a VM with a disk in ${format} finds it asleep or stopped`,
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
    `R5: a hearthd killed while it removes a VM that sleeps, with a disk in ${format}, finds it whole or nothing of it`,
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

crashTest("R5: a hearthd killed while it suspends a paused VM finds it halted or asleep", {
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

crashTest("R5: a hearthd killed while a VM sleeps again finds it awake or asleep", {
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
