import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { TestContext } from "node:test";
import { errorChain, toHearthError } from "#base/error.ts";
import type { HearthError } from "#base/error.ts";
import { MIB } from "#base/sizes.ts";
import { forkVm } from "#daemon/snapshot/fork-vm.ts";
import { resumeAfterSave } from "#daemon/snapshot/quiesce-vm.ts";
import { StatsReader } from "#daemon/view/vm-stats.ts";
import type { DriverFeatures } from "#drivers/vm-driver.ts";
import { parseSnapshotName } from "#model/ids.ts";
import { assertRuns } from "#testing/crash-story.ts";
import { useFakeDaemon } from "#testing/fake-daemon.ts";
import type { FakeDaemon } from "#testing/fake-daemon.ts";
import { LAYERED } from "#testing/fake-host.ts";

type Act = (daemon: FakeDaemon) => Promise<unknown>;
type Case = {
  /** Runs while the driver can still do everything. */
  readonly before: Act;
  readonly act: Act;
  readonly message: RegExp;
  /** A refused start is a failed start, and can be repeated. */
  readonly fails?: string;
};

const NAME = parseSnapshotName("s1");
const LIMIT = { opsPerS: 100 };
const PLAIN = { image: "debian" } as const;

const runs: Act = (daemon) => daemon.run("web", 1);
const isPaused: Act = async (daemon) => {
  await daemon.run("web", 1);
  await daemon.vms.pause("web", daemon.vms.background());
};
const isSuspended: Act = async (daemon) => {
  await daemon.run("web", 1);
  await daemon.snapshots.suspend("web", daemon.vms.background());
};
const isSaved: Act = async (daemon) => {
  await daemon.run("web", 1);
  await save(false)(daemon);
};
const nothing: Act = async () => {};

const make =
  (more: object): Act =>
  ({ vms }) =>
    vms.create(
      { ...("snapshot" in more ? {} : { image: "debian" }), name: "new", ...more },
      false,
      vms.background(),
    );
const start: Act = ({ vms }) => vms.start("new", vms.background());
const set =
  (change: object): Act =>
  ({ vms }) =>
    vms.set("web", change, vms.background());
const save =
  (diskOnly: boolean): Act =>
  ({ snapshots, vms }) =>
    snapshots.create("web", { kind: "named", name: NAME, diskOnly }, vms.background());
const suspend: Act = ({ snapshots, vms }) => snapshots.suspend("web", vms.background());
const fork: Act = (daemon) => forkVm(daemon, "web", { count: 2 }, daemon.vms.background());

const SNAPSHOTS_REFUSED = "This fake forgets what it saves.";

/** The features, with a driver that lacks each, and all that needs it. */
const LACKING: Readonly<
  Record<string, { without: Partial<DriverFeatures>; cases: Readonly<Record<string, Case>> }>
> = {
  pause: {
    without: { pause: false },
    cases: {
      "pausing a VM": {
        before: runs,
        act: ({ vms }) => vms.pause("web", vms.background()),
        message: /^Cannot pause web: the driver fake cannot pause VMs\.$/,
      },
      "a snapshot of the disk of a VM that runs": {
        before: runs,
        act: save(true),
        message: /^Cannot save web while it is running: the driver fake cannot pause VMs\.$/,
      },
      "a snapshot of a VM that is paused": {
        before: isPaused,
        act: save(false),
        message: /^Cannot save web while it is paused: the driver fake cannot pause VMs\.$/,
      },
      "a fork of a VM that is paused": {
        before: isPaused,
        act: fork,
        message: /^Cannot save web while it is paused: the driver fake/,
      },
      "suspending a VM": {
        before: runs,
        act: suspend,
        message: /^Cannot suspend web: the driver fake cannot pause VMs\.$/,
      },
    },
  },
  snapshots: {
    without: { snapshots: undefined, snapshotsRefused: SNAPSHOTS_REFUSED },
    cases: {
      "a snapshot": {
        before: runs,
        act: save(false),
        message: /The driver fake cannot save the memory of VMs/,
      },
      "a fork": { before: runs, act: fork, message: /The driver fake cannot save the memory of VMs/ },
      "suspending a VM": {
        before: runs,
        act: suspend,
        message: /The driver fake cannot save the memory of VMs/,
      },
      "waking a VM": {
        before: isSuspended,
        act: ({ vms }) => vms.start("web", vms.background()),
        message: /The driver fake cannot save the memory of VMs/,
      },
      "going back to a snapshot": {
        before: isSaved,
        act: ({ snapshots, vms }) => snapshots.restore("s1", vms.background()),
        message: /The driver fake cannot save the memory of VMs/,
      },
      "the start of a VM from a snapshot": {
        before: async (daemon) => {
          await isSaved(daemon);
          await make({ snapshot: "s1" })(daemon);
        },
        act: start,
        fails: "new",
        message: /The driver fake cannot save the memory of VMs/,
      },
    },
  },
  balloon: {
    without: { balloon: false },
    cases: {
      "less memory for a VM that runs": {
        before: runs,
        act: set({ memoryBytes: 256 * MIB }),
        message: /The driver fake cannot change the memory of a running VM/,
      },
    },
  },
  "limits.disk": {
    without: { limits: { disk: false, net: true } },
    cases: limitCases("disk"),
  },
  "limits.net": {
    without: { limits: { disk: true, net: false } },
    cases: limitCases("net"),
  },
  "limits, all of them": {
    without: { limits: { disk: false, net: false } },
    cases: { ...limitCases("disk"), ...limitCases("net") },
  },
  nested: {
    without: { nested: undefined },
    cases: {
      "making a VM that runs VMs": {
        before: nothing,
        act: make({ nested: true }),
        message: /no driver on this host/,
      },
      "the start of a VM that runs VMs": {
        before: make({ nested: true }),
        act: start,
        fails: "new",
        message: /^The driver fake does not support nested virtualization\.$/,
      },
    },
  },
  networks: {
    without: { networks: ["none"] },
    cases: {
      "the start of a VM with a network": {
        before: make({ network: "nat" }),
        act: start,
        fails: "new",
        message: /^The driver fake has no network "nat"\.$/,
      },
    },
  },
};

function limitCases(kind: "disk" | "net"): Record<string, Case> {
  const limit = { [`${kind}Limit`]: LIMIT };
  return {
    [`making a VM with a ${kind} limit`]: {
      before: nothing,
      act: make({ ...limit, driver: "fake" }),
      message: new RegExp(`^${kind}-limit: the driver fake cannot limit`),
    },
    [`the start of a VM with a ${kind} limit`]: {
      before: make(limit),
      act: start,
      fails: "new",
      message: new RegExp(`^The driver fake has no ${kind}-limit\\.$`),
    },
    [`a ${kind} limit for a VM that runs`]: {
      before: (daemon) => daemon.run("web", 1, PLAIN),
      act: set(limit),
      message: new RegExp(`^${kind}-limit: the driver fake cannot limit`),
    },
    // A VM without a network has no card, from which the driver would have to take a limit.
    ...(kind === "disk" && {
      [`taking away the ${kind} limit of a VM that runs`]: {
        before: (daemon) => daemon.run("web", 1, { ...PLAIN, ...limit }),
        act: set({ [`${kind}Limit`]: null }),
        message: new RegExp(`^${kind}-limit: the driver fake cannot limit`),
      },
    }),
  };
}

/** The state that a refusal must not change. */
function stateOf({ host }: FakeDaemon, fails?: string): unknown {
  const rows = host.store.listVms().filter(({ name }) => name !== fails);
  return {
    vms: rows.map(({ name, spec, state }) => ({ name, spec, state })),
    snapshots: host.snapshots.list(),
    files: host.machine.leftovers(),
    vmms: host.machine.vmms.running().map(({ pid, phase, limits, memoryBytes, guest }) => {
      return { pid, phase, limits, memoryBytes, isFrozen: guest.frozen };
    }),
  };
}

async function refusal(asked: Promise<unknown>): Promise<HearthError> {
  const refused = await asked.then(
    () => undefined,
    (error: unknown) => toHearthError(error),
  );
  assert.ok(refused, "it is refused");
  return refused;
}

function take(daemon: FakeDaemon, without: Partial<DriverFeatures>): void {
  const { driver } = daemon.host;
  driver.description = { ...driver.description, ...without };
}

for (const [feature, { without, cases }] of Object.entries(LACKING)) {
  describe(`a driver without ${feature}`, () => {
    for (const [what, { before, act, message, fails }] of Object.entries(cases)) {
      test(`refuses ${what} by name, is not asked for it, and nothing has changed`, async (t) => {
        const daemon = await useFakeDaemon(t);
        await before(daemon);
        const asIs = stateOf(daemon, fails);
        const able = daemon.host.driver.description;
        take(daemon, without);
        const error = await refusal(act(daemon));
        assert.deepEqual([error.code, error.message.match(message)?.length], ["feature.missing", 1]);
        assert.notEqual(error.hint ?? "", "", "it says what to do");
        assert.deepEqual(stateOf(daemon, fails), asIs);
        assert.deepEqual(daemon.host.driver.askedInVain, []);
        take(daemon, able);
        await act(daemon); // It is the feature that was missing, and nothing else.
      });
    }
  });
}

test("a driver that cannot save says why", async (t) => {
  const daemon = await useFakeDaemon(t);
  await runs(daemon);
  take(daemon, { snapshots: undefined, snapshotsRefused: SNAPSHOTS_REFUSED });
  for (const act of [save(false), fork, suspend])
    await assert.rejects(act(daemon), { code: "feature.missing", hint: SNAPSHOTS_REFUSED });
});

test("without pause no VM waits in a pool, and none is made for it", async (t) => {
  const config = '[warm]\nenabled = true\n[pool.web]\nimage = "debian"\ncount = 1\n';
  const daemon = await useFakeDaemon(t, { config, features: { pause: false } });
  const { host, pools } = daemon;
  pools.fill();
  await pools.idle();
  assert.deepEqual([pools.ready("web"), host.store.listVms(), host.snapshots.list()], [0, [], []]);
  const failures = host.machine.events.filter(({ name }) => name === "pool.failed");
  assert.deepEqual(
    failures.map(({ fields }) => toHearthError((fields as { error: unknown }).error).message),
    ["Cannot fill the pool web: the driver fake cannot pause VMs."],
  );
  assert.deepEqual(host.driver.calls, []);
});

/** The actions that a driver without a feature does all the same. */
const WORKS: readonly (readonly [what: string, without: Partial<DriverFeatures>, before: Act, act: Act])[] = [
  ["pause saves a VM that runs, with its memory", { pause: false }, runs, save(false)],
  ["pause forks a VM that runs", { pause: false }, runs, fork],
  ["pause saves the disk of a VM that is paused", { pause: false }, isPaused, save(true)],
  [
    "pause resumes a VM that was paused before",
    { pause: false },
    isPaused,
    ({ vms }) => vms.resume("web", vms.background()),
  ],
  [
    "pause leaves a VM paused whose save a crash has ended",
    { pause: false },
    isPaused,
    async (daemon) => {
      const asIs = stateOf(daemon);
      await resumeAfterSave(daemon.host, daemon.host.store.getVm("web"));
      assert.deepEqual(stateOf(daemon), asIs);
    },
  ],
  ["snapshots saves disks", { snapshots: undefined }, runs, save(true)],
  ["snapshots builds no templates", { snapshots: undefined }, runs, (daemon) => daemon.templates.idle()],
  ["a balloon saves a VM", { balloon: false }, runs, save(false)],
  [
    "a balloon tells what its VMs use",
    { balloon: false },
    runs,
    async ({ host }) => {
      const stats = await new StatsReader(host).read(host.store.getVm("web"));
      assert.equal(stats.memoryBytes, undefined);
    },
  ],
  [
    "limits takes away one that is not there",
    { limits: { disk: false, net: false } },
    runs,
    set({ diskLimit: null, netLimit: null }),
  ],
];

for (const [what, without, before, act] of WORKS) {
  test(`a driver without ${what}`, async (t) => {
    const daemon = await useFakeDaemon(t);
    await before(daemon);
    take(daemon, without);
    await act(daemon);
    assert.deepEqual(daemon.host.driver.askedInVain, []);
  });
}

describe("a driver without disks in layers", () => {
  /** A snapshot of another driver, which has layers. */
  async function madeFromLayers(t: TestContext, more: object): Promise<FakeDaemon> {
    const daemon = await useFakeDaemon(t, { features: LAYERED });
    await isSaved(daemon);
    await make({ snapshot: "s1", ...more })(daemon);
    take(daemon, {
      layeredDisks: false,
      snapshots: { diskFormat: "raw", vmmFingerprint: "another", caveats: [] },
    });
    return daemon;
  }

  test("gets one file when a VM boots from the disk of a snapshot", async (t) => {
    const daemon = await madeFromLayers(t, { cold: true });
    await start(daemon);
    assert.deepEqual(daemon.host.driver.askedInVain, []);
    await assertRuns(daemon, "new");
  });

  test("refuses the memory that was saved with them, and nothing has changed", async (t) => {
    const daemon = await madeFromLayers(t, {});
    const asIs = stateOf(daemon, "new");
    await assert.rejects(start(daemon), { code: "snapshot.mismatch" });
    assert.deepEqual(stateOf(daemon, "new"), asIs);
  });
});

test("a driver that is not available starts nothing, and what runs with it can be used and stopped", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms } = daemon;
  await runs(daemon);
  await make({})(daemon);
  const asIs = stateOf(daemon, "new");
  take(daemon, { available: { ok: false, reason: "It is gone.", hint: "Install it." } });
  await assert.rejects(start(daemon), { code: "vmm.missing", message: "It is gone.", hint: "Install it." });
  assert.deepEqual(stateOf(daemon, "new"), asIs);
  await assertRuns(daemon, "web");
  await vms.stop("web", { mode: "graceful", timeoutMs: 1_000 }, vms.background());
  assert.deepEqual(host.machine.vmms.running(), []);
});

test("a VM whose request names no driver is checked against the one in config.toml before its image is built", async (t) => {
  const { host, vms } = await useFakeDaemon(t, { config: 'defaults.driver = "firecracker"' });
  host.images.ensure = () => assert.fail("nobody waits for an image in vain");
  const asked = vms.create({ image: "debian" }, false, vms.background());
  await assert.rejects(asked, (error: unknown) => /firecracker/.test(errorChain(error)));
});
