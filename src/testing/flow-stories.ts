/**
 * The table of all flows: at least one story for each, which goes through every step of it.
 *
 * Tests go over the table: each effect of a story fails once, a second action arrives after it, hearthd ends after it.
 * `flows/flow-stories.test.ts` holds that no flow is missing and that no story leaves out a step.
 */
import assert from "node:assert/strict";
import { forkVm } from "#daemon/snapshot/fork-vm.ts";
import type { FlowKind } from "#daemon/store/journal.ts";
import { parseSnapshotName, parseVmName } from "#model/ids.ts";
import { INTERNET } from "#model/network-policy.ts";
import { handleOf } from "#model/vm-state.ts";
import type { Hearth } from "#sdk/hearth.ts";
import type { CrashStory } from "#testing/crash-story.ts";
import type { FakeDaemon } from "#testing/fake-daemon.ts";
import { writtenOn } from "#testing/fake-guest.ts";
import { LAYERED } from "#testing/fake-host.ts";

/** A story that hearthd's own code and a client can begin. */
export type FlowStory = CrashStory & {
  /** Names the story in a test's name. */
  readonly what: string;
  /** The flows whose every step it goes through. */
  readonly flows: readonly FlowKind[];
  /** Does the same as `act`, for a client. */
  readonly ask: (hearth: Hearth) => Promise<unknown>;
  /** Asserts what a client relies on that was told of success. */
  readonly done: (daemon: FakeDaemon) => void;
};

const NAME = parseSnapshotName("s1");
const STOP = { mode: "graceful", timeoutMs: 1_000 } as const;
const CLOSED = { default: "deny", rules: [] } as const;
const IMAGE = { image: "debian" } as const;

async function isCreated({ vms }: FakeDaemon): Promise<void> {
  await vms.create({ name: "web", ...IMAGE }, false, vms.background());
}

const runs = (daemon: FakeDaemon): Promise<unknown> => daemon.run("web", 2);

async function hasStopped(daemon: FakeDaemon): Promise<void> {
  await runs(daemon);
  await daemon.vms.stop("web", STOP, daemon.vms.background());
}

async function isSuspended(daemon: FakeDaemon): Promise<void> {
  await runs(daemon);
  await daemon.snapshots.suspend("web", daemon.vms.background());
}

/** A snapshot of one write, and a VM that has written twice since. */
async function isSaved(daemon: FakeDaemon): Promise<void> {
  await daemon.run("web", 1);
  await daemon.snapshots.create("web", { kind: "named", name: NAME }, daemon.vms.background());
  daemon.work("web", 2);
}

function isIn(phase: string) {
  return ({ host }: FakeDaemon): void => assert.equal(host.store.getVm("web").state.phase, phase);
}

function hasWritten(...times: readonly number[]) {
  return ({ host }: FakeDaemon): void => {
    if (host.store.findVm("web") === undefined) return; // Something else has removed it.
    const written = writtenOn(host.machine.vmm("web"));
    assert.ok(times.includes(written), `${written} times was written to the disk of web`);
  };
}

/** The network policy of the row is the one that holds. */
function isInForce({ host }: FakeDaemon): void {
  const vm = host.store.findVm("web");
  if (vm === undefined || handleOf(vm.state) === undefined) return; // Something else has stopped or removed it.
  assert.deepEqual(host.machine.isolation.networks.get(vm.id), vm.spec.policy ?? INTERNET);
}

export const FLOW_STORIES: readonly FlowStory[] = [
  {
    what: "a creation",
    flows: ["create"],
    before: async () => {},
    act: isCreated,
    ask: (hearth) => hearth.vms.create({ name: "web", ...IMAGE }),
    done: isIn("created"),
    includes: [],
  },
  {
    what: "a first start",
    flows: ["start"],
    before: isCreated,
    act: ({ vms }) => vms.start("web", vms.background()),
    ask: (hearth) => hearth.vm("web").start(),
    done: isIn("running"),
    includes: [],
  },
  {
    what: "a start",
    flows: ["start"],
    before: hasStopped,
    act: ({ vms }) => vms.start("web", vms.background()),
    ask: (hearth) => hearth.vm("web").start(),
    done: isIn("running"),
    resumed: hasWritten(2),
    includes: [],
  },
  {
    what: "a stop",
    flows: ["stop"],
    before: runs,
    act: ({ vms }) => vms.stop("web", STOP, vms.background()),
    ask: (hearth) => hearth.vm("web").stop({ timeoutMs: STOP.timeoutMs }),
    done: isIn("stopped"),
    resumed: hasWritten(2),
    includes: [],
  },
  {
    what: "a removal",
    flows: ["remove"],
    before: hasStopped,
    act: ({ vms }) => vms.remove("web", false, vms.background()),
    ask: (hearth) => hearth.vm("web").remove(),
    done: ({ host }) => assert.equal(host.store.findVm("web"), undefined),
    resumed: hasWritten(2),
    includes: [],
  },
  {
    what: "a forced removal",
    flows: ["remove"],
    before: runs,
    act: ({ vms }) => vms.remove("web", true, vms.background()),
    ask: (hearth) => hearth.vm("web").remove({ force: true }),
    done: ({ host }) => assert.equal(host.store.findVm("web"), undefined),
    includes: [],
  },
  {
    what: "a snapshot",
    flows: ["snapshot", "finalize"],
    options: { features: LAYERED },
    before: runs,
    act: ({ snapshots, vms }) => snapshots.create("web", { kind: "named", name: NAME }, vms.background()),
    ask: (hearth) => hearth.snapshots.create({ vm: "web", name: NAME }),
    done: ({ host }) => assert.equal(host.snapshots.get(NAME).ready, true),
    resumed: hasWritten(2),
    includes: [],
  },
  {
    what: "a suspension",
    flows: ["snapshot", "finalize", "stop"],
    before: runs,
    act: ({ snapshots, vms }) => snapshots.suspend("web", vms.background()),
    ask: (hearth) => hearth.vm("web").suspend(),
    done: isIn("suspended"),
    resumed: hasWritten(2),
    includes: [],
  },
  {
    what: "a resume",
    flows: ["start"],
    options: { features: LAYERED },
    before: isSuspended,
    act: ({ vms }) => vms.resume("web", vms.background()),
    ask: (hearth) => hearth.vm("web").resume(),
    done: isIn("running"),
    resumed: hasWritten(2),
    includes: [],
  },
  {
    what: "a restore",
    flows: ["stop", "start"],
    before: isSaved,
    act: ({ snapshots, vms }) => snapshots.restore(NAME, vms.background()),
    ask: (hearth) => hearth.snapshots.restore(NAME),
    done: isIn("running"),
    resumed: hasWritten(1, 3),
    includes: [],
  },
  {
    what: "a fork",
    flows: ["snapshot", "finalize", "create", "start", "remove"],
    before: runs,
    act: (daemon) => forkVm(daemon, "web", { count: 1, name: parseVmName("fork") }, daemon.vms.background()),
    ask: (hearth) => hearth.vm("web").fork({ count: 1, name: "fork" }),
    done: ({ host }) => assert.equal(host.store.getVm("fork").state.phase, "running"),
    resumed: hasWritten(2),
    includes: [],
  },
  {
    what: "a change of the network policy",
    flows: ["policy"],
    before: runs,
    act: ({ vms }) => vms.set("web", { policy: CLOSED }, vms.background()),
    ask: (hearth) => hearth.vm("web").set({ policy: CLOSED }),
    done: ({ host }) => assert.deepEqual(host.store.getVm("web").spec.policy, CLOSED),
    after: isInForce,
    resumed: hasWritten(2),
    includes: [],
  },
];
