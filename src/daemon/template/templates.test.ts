import assert from "node:assert/strict";
import { chmodSync, truncateSync } from "node:fs";
import { describe, test } from "node:test";
import type { TestContext } from "node:test";
import type { ApiEvent } from "#api/events.ts";
import type { Progress } from "#base/progress.ts";
import { HearthError } from "#base/error.ts";
import { snapshotPaths } from "#daemon/store/paths.ts";
import { parseVolumeName } from "#model/ids.ts";
import type { VolumeName } from "#model/ids.ts";
import { assertRuns } from "#testing/crash-story.ts";
import { useFakeDaemon } from "#testing/fake-daemon.ts";
import type { FakeDaemon } from "#testing/fake-daemon.ts";
import { writtenOn } from "#testing/fake-guest.ts";
import type { FakeHostOptions } from "#testing/fake-host.ts";
import { Gate } from "#testing/gate.ts";

const GIB = 2 ** 30;
const BROKEN = new Error("no such luck");
const ON = "warm.enabled = true";

/** Resolves when hearthd has logged this event, which it does at the end of the action. */
async function until(daemon: FakeDaemon, name: string, times = 1): Promise<void> {
  const noted = (): number => daemon.host.machine.events.filter((event) => event.name === name).length;
  while (noted() < times) {
    await new Promise((resolve) => setImmediate(resolve));
    await daemon.templates.idle();
  }
}

/** The internal VMs that were booted. */
function templatesBooted({ host }: FakeDaemon): number {
  return host.driver.calls.filter((call) => call.startsWith("boot hearth-")).length;
}

/** Boots `first`, and waits for its template. */
async function withTemplate(t: TestContext, options: FakeHostOptions = {}): Promise<FakeDaemon> {
  const daemon = await useFakeDaemon(t, { config: ON, ...options });
  await daemon.run("first", 0, { image: "debian" });
  await until(daemon, "template.made");
  daemon.host.driver.calls.length = 0;
  return daemon;
}

test("the first VM of a kind boots, and all later ones are restored from the template that it led to", async (t) => {
  const events: ApiEvent[] = [];
  const daemon = await useFakeDaemon(t, { config: ON });
  const { host, vms, templates } = daemon;
  host.bus.subscribe((event) => events.push(event));
  await daemon.run("first", 0, { image: "debian" });
  await until(daemon, "template.made");
  assert.deepEqual(
    host.store.listVms().map(({ name }) => name),
    ["first"],
  );
  for (const name of ["second", "third"]) {
    await daemon.run(name, 0, { image: "debian" });
    assert.equal(host.driver.calls.at(-1), `restore ${name}`);
    await assertRuns(daemon, name);
    assert.equal(host.machine.vmm(name).guest.calls[0], "configure restored");
  }
  assert.equal(templates.list().length, 1);
  assert.equal(templatesBooted(daemon), 1);
  const names = events.flatMap((event) => ("name" in event ? [event.name] : []));
  assert.deepEqual(
    [...new Set(names)],
    ["first", "second", "third"],
    "what hearthd does for itself is no news",
  );
  for (const { id } of host.store.listVms()) await vms.remove(id, true, vms.background());
  assert.equal(await templates.prune(), 1);
  assert.deepEqual(host.machine.leftovers(), []);
});

test("several VMs of a kind make one template, and so do concurrent requests for it", async (t) => {
  const daemon = await useFakeDaemon(t, { config: ON });
  const { vms, templates } = daemon;
  await Promise.all(["one", "two", "three"].map((name) => daemon.run(name, 0, { image: "debian" })));
  const vm = daemon.host.store.getVm("one");
  const built = await Promise.all(Array.from({ length: 3 }, () => templates.build(vm, vms.background())));
  await templates.idle();
  assert.deepEqual(
    new Set(built.map((template) => template?.id)),
    new Set(templates.list().map(({ id }) => id)),
  );
  assert.equal(templatesBooted(daemon), 1);
});

test("VMs with different compatibility keys have different templates", async (t) => {
  const daemon = await withTemplate(t);
  await daemon.run("other", 0, { image: "debian", cpus: 4 });
  await until(daemon, "template.made", 2);
  for (const [name, cpus] of [
    ["a", 2],
    ["b", 4],
  ] as const)
    await daemon.run(name, 0, { image: "debian", cpus });
  assert.deepEqual(
    daemon.host.driver.calls.filter((call) => /^(boot|restore) (a|b)$/.test(call)),
    ["restore a", "restore b"],
  );
});

describe("no template is made", () => {
  const NONE: Readonly<Record<string, FakeHostOptions & { more?: { cold?: boolean; noWarm?: boolean } }>> = {
    "for a VM that is to boot": { more: { cold: true } },
    "for a VM of which none is to be made": { more: { noWarm: true } },
    "where they are off": { config: "warm.enabled = false" },
    "where the driver cannot save": { features: { snapshots: undefined } },
  };
  for (const [why, { more, ...options }] of Object.entries(NONE)) {
    test(why, async (t) => {
      const daemon = await useFakeDaemon(t, { config: ON, ...options });
      await daemon.run("web", 0, { image: "debian", ...more });
      // The requests after the first get the template that the first one's request has led to.
      await new Promise((resolve) => setImmediate(resolve));
      await daemon.templates.idle();
      assert.equal(templatesBooted(daemon), 0);
      assert.deepEqual(daemon.templates.list(), []);
    });
  }
});

test("VMs with volumes start from a template that knows how large they are, and find their own", async (t) => {
  const daemon = await useFakeDaemon(t, { config: ON });
  const { host, templates } = daemon;
  await host.volumes.cleanUp();
  const make = async (name: string, sizeBytes: number): Promise<VolumeName> => {
    await host.volumes.create({ name: parseVolumeName(name), sizeBytes }, t.signal);
    return parseVolumeName(name);
  };
  const mounts = (name: VolumeName) => ({ image: "debian", volumes: [{ name, path: "/data" }] });
  await daemon.run("one", 0, mounts(await make("one", 2 ** 26)));
  await until(daemon, "template.made");
  assert.deepEqual(templates.list()[0]?.spec.volumes, [], "nobody's volume is in it");
  await daemon.run("two", 0, mounts(await make("two", 2 ** 26)));
  assert.equal(host.driver.calls.at(-1), "restore two");
  const paths = host.machine.vmm("two").plan.disks.map(({ path }) => path);
  assert.equal(paths.at(-1), host.volumes.diskPath(parseVolumeName("two")));
  await daemon.run("large", 0, mounts(await make("large", 2 ** 27)));
  assert.ok(host.driver.calls.includes("boot large"), "another size is another shape");
});

describe("templates within their budget", () => {
  const config = `[warm]\nenabled = true\nbudget = "2G"`;
  const shape = (cpus: number) => ({ image: "debian", cpus });

  async function build(daemon: FakeDaemon, cpus: number): Promise<void> {
    const { vms, templates } = daemon;
    const call = vms.background();
    const { spec, imageDigest } = await vms.create({ name: `shape-${cpus}`, ...shape(cpus) }, false, call);
    await templates.build({ spec, imageDigest }, call);
  }
  const cpusOf = ({ templates }: FakeDaemon): number[] =>
    templates
      .list()
      .map(({ spec }) => spec.cpus)
      .toSorted();

  test("the least recently used is deleted first", async (t) => {
    const daemon = await useFakeDaemon(t, { config });
    daemon.host.machine.snapshotBytes = GIB;
    await build(daemon, 1);
    await build(daemon, 2);
    assert.deepEqual(cpusOf(daemon), [1, 2]);
    await daemon.run("uses-1", 0, shape(1));
    await daemon.vms.remove("uses-1", true, daemon.vms.background());
    await build(daemon, 3);
    assert.deepEqual(cpusOf(daemon), [1, 3]);
    await build(daemon, 4);
    assert.deepEqual(cpusOf(daemon), [3, 4]);
  });

  test("one that a VM maps is never deleted, whatever the budget", async (t) => {
    const daemon = await useFakeDaemon(t, { config });
    daemon.host.machine.snapshotBytes = GIB;
    for (const cpus of [1, 2]) {
      await build(daemon, cpus);
      await daemon.run(`uses-${cpus}`, 0, shape(cpus));
    }
    await build(daemon, 3);
    assert.deepEqual(cpusOf(daemon), [1, 2, 3]);
    assert.equal(await daemon.templates.prune(), 1, "nor when all are to go that can");
    assert.deepEqual(cpusOf(daemon), [1, 2]);
    await daemon.vms.remove("uses-1", true, daemon.vms.background());
    await build(daemon, 4);
    assert.deepEqual(cpusOf(daemon), [2, 4]);
  });

  test("the newest stays, also where it is alone too large", async (t) => {
    const daemon = await useFakeDaemon(t, { config });
    daemon.host.machine.snapshotBytes = 3 * GIB;
    for (const cpus of [1, 2]) await build(daemon, cpus);
    assert.deepEqual(cpusOf(daemon), [2]);
  });
});

test("a template that could not be made is tried again after a while", async (t) => {
  const daemon = await useFakeDaemon(t, { config: ON, timing: { idleMs: 0, patienceMs: 0, retryMs: 0 } });
  daemon.host.driver.faults.finalizeError = BROKEN;
  await daemon.run("one", 0, { image: "debian" });
  await until(daemon, "template.failed");
  await daemon.run("two", 0, { image: "debian" });
  await until(daemon, "template.made");
  await daemon.run("three", 0, { image: "debian" });
  assert.equal(daemon.host.driver.calls.at(-1), "restore three");
});

test("a template that could not be made is not tried again before that, unless a user asks", async (t) => {
  const daemon = await useFakeDaemon(t, { config: ON });
  const { host, vms, templates } = daemon;
  host.driver.faults.finalizeError = BROKEN;
  const vm = await daemon.run("one", 0, { image: "debian" });
  await until(daemon, "template.failed");
  assert.equal(templatesBooted(daemon), 1);
  assert.deepEqual(
    host.store.listVms().map(({ name }) => name),
    ["one"],
    "nothing is left of it",
  );
  assert.deepEqual(host.snapshots.list(), []);
  await daemon.run("two", 0, { image: "debian" });
  // Another key is queued behind it, so that its turn is over when that one is made.
  await daemon.run("three", 0, { image: "debian", cpus: 4 });
  await until(daemon, "template.made");
  assert.equal(templatesBooted(daemon), 2);
  assert.ok(await templates.build(vm, vms.background()));
  await daemon.run("four", 0, { image: "debian" });
  assert.equal(host.driver.calls.at(-1), "restore four");
});

describe("a template that cannot be restored", () => {
  const USELESS: Readonly<Record<string, (daemon: FakeDaemon) => void>> = {
    "because no VMM takes it": ({ host }) => (host.driver.faults.restoreError = BROKEN),
    "because its guest does not answer": ({ host }) => (host.guestFaults.unreachable = 1),
    "because its guest does not become another one": ({ host }) => (host.guestFaults.configureError = BROKEN),
    "because its memory is damaged": ({ host, templates }) => {
      const [template] = templates.list();
      assert.ok(template);
      const { memory } = snapshotPaths(host.dirs, template.id);
      chmodSync(memory, 0o600);
      truncateSync(memory, 5);
    },
    "because it is removed meanwhile": ({ host, templates }) => {
      const { makeDir } = host.files;
      host.files.makeDir = async (path) => {
        host.files.makeDir = makeDir;
        await makeDir(path);
        assert.equal(await templates.prune(), 1);
      };
    },
  };
  for (const [why, spoil] of Object.entries(USELESS)) {
    test(`is deleted ${why}: the VM boots, and nothing of the template is left`, async (t) => {
      const daemon = await withTemplate(t);
      const { host, vms, templates } = daemon;
      const [template] = templates.list();
      const told: Progress[] = [];
      await vms.create({ name: "web", image: "debian", noWarm: true }, false, vms.background());
      spoil(daemon);
      await vms.start("web", { ...vms.background(), onProgress: (progress) => told.push(progress) });
      await assertRuns(daemon, "web");
      assert.equal(host.driver.calls.at(-1), "boot web");
      const vmm = host.machine.vmm("web");
      assert.equal(vmm.guest.calls[0], "configure", "it is none that was restored");
      assert.equal(writtenOn(vmm), 0);
      assert.ok(told.some(({ text }) => text === "the template does not work; booting instead"));
      assert.equal(template && host.snapshots.find(template.id), undefined);
      for (const { id } of host.store.listVms()) await vms.remove(id, true, vms.background());
      await templates.prune();
      assert.deepEqual(host.machine.leftovers(), []);
    });
  }

  test("because the host's disk is full stays for later, and the VM boots", async (t) => {
    const daemon = await withTemplate(t);
    const { host, templates } = daemon;
    const [template] = templates.list();
    host.driver.faults.restoreError = new HearthError("host.disk_full", "The disk is full.");
    await daemon.run("two", 0, { image: "debian" });
    assert.equal(host.driver.calls.at(-1), "boot two");
    await daemon.run("three", 0, { image: "debian" });
    assert.equal(host.driver.calls.at(-1), "restore three");
    assert.deepEqual(
      templates.list().map(({ id }) => id),
      [template?.id],
    );
  });

  test("is made once more, and not a third time", async (t) => {
    const daemon = await withTemplate(t);
    const { host } = daemon;
    host.driver.faults.restoreError = BROKEN;
    await daemon.run("two", 0, { image: "debian" });
    await until(daemon, "template.made", 2);
    host.driver.faults.restoreError = BROKEN;
    await daemon.run("three", 0, { image: "debian" });
    await daemon.run("other", 0, { image: "debian", cpus: 4 });
    await until(daemon, "template.made", 3);
    assert.deepEqual(
      daemon.templates.list().map(({ spec }) => spec.cpus),
      [4],
    );
  });
});

for (const step of ["save", "finalize", "restore"] as const) {
  test(`a hearthd that ends while a template is at its ${step} leaves nothing of it`, async (t) => {
    const daemon = await useFakeDaemon(t, { config: ON });
    const { host, vms, templates } = daemon;
    const gate = new Gate();
    host.driver.faults[`${step}Gate`] = gate;
    await daemon.run("web", 0, { image: "debian" });
    await gate.reached;
    await templates.end();
    assert.deepEqual(
      host.store.listVms().map(({ name }) => name),
      ["web"],
    );
    assert.deepEqual(host.snapshots.list(), []);
    assert.ok(!host.machine.events.some(({ name }) => name === "template.failed"), "nothing has failed");
    await assertRuns(daemon, "web");
    await vms.remove("web", true, vms.background());
    assert.deepEqual(host.machine.leftovers(), []);
  });
}

test("a template waits until the host is idle", async (t) => {
  const IDLE_MS = 20;
  const daemon = await useFakeDaemon(t, {
    config: ON,
    timing: { idleMs: IDLE_MS, patienceMs: 60_000, retryMs: 0 },
  });
  const { host, vms } = daemon;
  const gate = new Gate();
  await daemon.run("busy", 0, { image: "debian", noWarm: true });
  host.driver.faults.saveGate = gate;
  const suspended = daemon.snapshots.suspend("busy", vms.background());
  await gate.reached;
  await daemon.run("web", 0, { image: "debian" });
  await new Promise((resolve) => setTimeout(resolve, 3 * IDLE_MS)); // Nothing happens, and no event says so.
  assert.equal(templatesBooted(daemon), 0);
  gate.open();
  await suspended;
  await until(daemon, "template.made");
});

test("a host that is never quiet gets its template when that has waited long enough", async (t) => {
  const daemon = await useFakeDaemon(t, {
    config: ON,
    timing: { idleMs: 3_600_000, patienceMs: 0, retryMs: 0 },
  });
  await daemon.run("web", 0, { image: "debian" });
  await until(daemon, "template.made");
});
