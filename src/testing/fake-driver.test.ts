import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { NO_ISOLATION } from "#drivers/boot-isolation.ts";
import type { BootPlan, SnapshotFiles } from "#drivers/vm-driver.ts";
import { parseVmName, vmIdFrom } from "#model/ids.ts";
import type { ContractHost } from "#testing/contract-host.ts";
import { driverContract } from "#testing/driver-contract.ts";
import { FakeDriver } from "#testing/fake-driver.ts";
import { FakeVmms } from "#testing/fake-vmms.ts";

function fakePlan(more: Partial<BootPlan> = {}): BootPlan {
  return {
    id: vmIdFrom(new Uint8Array(12)),
    name: parseVmName("web"),
    stateDir: "/fake/state",
    runDir: "/fake/run",
    kernel: "/fake/vmlinuz",
    initramfs: "/fake/initramfs",
    kernelArgs: [],
    disks: [],
    cpus: 1,
    memoryBytes: 2 ** 29,
    nics: [],
    init: "agent",
    nested: false,
    isolation: NO_ISOLATION,
    ...more,
  };
}

driverContract("the fake driver", async (): Promise<ContractHost & AsyncDisposable> => {
  const vmms = new FakeVmms();
  const outside = new FakeDriver({ vmms });
  const dir = mkdtempSync(join(tmpdir(), "fake-contract-"));
  let plans = 0;
  return {
    makeDriver: () => new FakeDriver({ vmms }),
    makePlan: async () => fakePlan({ stateDir: `/fake/state-${++plans}` }),
    act: (handle, act) => void (act === "power-off" && outside.powerOff(handle)),
    // Its guests count whenever somebody listens to one.
    counted: ({ stateDir }) => {
      const all = vmms.running();
      for (const vmm of all) if (vmm.phase === "running") vmm.count += 1;
      return all.filter(({ plan }) => plan.stateDir === stateDir).map(({ count }) => count);
    },
    snapshotFiles: (name) => snapshotFiles(join(dir, name)),
    crash: (handle) => outside.crash(handle),
    leftovers: () => outside.leftovers(),
    [Symbol.asyncDispose]: async () => rmSync(dir, { recursive: true }),
  };
});

function snapshotFiles(dir: string): SnapshotFiles {
  mkdirSync(dir);
  return { memory: join(dir, "memory"), state: join(dir, "state") };
}

const never = new AbortController().signal;

test("a fault spoils one boot and no more", async () => {
  const driver = new FakeDriver();
  driver.faults.bootError = new Error("no such luck");
  await assert.rejects(
    driver.boot(fakePlan(), () => {}, never),
    /no such luck/,
  );
  assert.deepEqual(driver.leftovers(), []);
  await driver.boot(fakePlan(), () => {}, never);
  assert.equal(driver.leftovers().length, 1);
});

const NO_HOOKS = { quiesce: async () => {}, onPaused: async () => {} };

test("what a fake has saved only the same version takes, and only when it was settled", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "fake-driver-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const driver = new FakeDriver();
  const { snapshotter } = driver;
  assert.ok(snapshotter);
  const handle = await driver.boot(fakePlan(), () => {}, never);
  const saved = snapshotFiles(join(dir, "saved"));
  driver.faults.saveError = new Error("no such luck");
  await assert.rejects(snapshotter.save(handle, saved, NO_HOOKS, never), /no such luck/);
  await driver.pause(handle, never);
  await snapshotter.save(handle, saved, NO_HOOKS, never);
  assert.equal(driver.vmms.running()[0]?.phase, "paused", "it is paused as before");
  const restored = (by: FakeDriver): Promise<unknown> | undefined =>
    by.snapshotter?.restore(fakePlan(), saved, () => {}, never);
  await assert.rejects(async () => restored(driver), { code: "snapshot.failed" });
  await snapshotter.finalize(fakePlan(), saved, never);
  await restored(driver);
  const other = new FakeDriver();
  other.description = { ...other.description, version: "1.0.1" };
  await assert.rejects(async () => restored(other), { code: "snapshot.failed" });
  await assert.rejects(snapshotter.finalize(fakePlan({ cpus: 2 }), saved, never), {
    code: "snapshot.failed",
  });
  writeFileSync(saved.memory, readFileSync(saved.memory, "utf8").slice(1));
  await assert.rejects(async () => restored(driver), { code: "snapshot.failed" });
});
