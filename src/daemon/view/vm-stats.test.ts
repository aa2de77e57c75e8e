import assert from "node:assert/strict";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { vmStatsSchema } from "#api/schemas.ts";
import { HearthError } from "#base/error.ts";
import { MIB } from "#base/sizes.ts";
import { StatsReader } from "#daemon/view/vm-stats.ts";
import { Vms } from "#daemon/vm/vms.ts";
import type { VmmMetrics } from "#drivers/vm-driver.ts";
import { FakeHost, FakeMachine } from "#testing/fake-host.ts";

const METRICS: VmmMetrics = {
  vcpuExits: 1,
  blockReadBytes: 2,
  blockWriteBytes: 3,
  blockReadOps: 4,
  blockWriteOps: 5,
  blockThrottledCount: 6,
  vsockToGuestBytes: 7,
  vsockFromGuestBytes: 8,
  missedLogCount: 9,
  missedMetricsCount: 10,
  seccompFaultCount: 0,
};

async function setUp(t: TestContext) {
  const machine = new FakeMachine();
  const host = new FakeHost(machine);
  const vms = new Vms(host);
  const stats = new StatsReader(host);
  t.after(() => {
    vms.detachAll();
    host.store.close();
    machine[Symbol.dispose]();
  });
  await vms.create({ name: "web", image: "debian", memoryBytes: 512 * MIB }, false, vms.background());
  // As it goes over the wire.
  const read = async () =>
    vmStatsSchema.strict().parse(JSON.parse(JSON.stringify(await stats.read(host.store.getVm("web")))));
  return { host, vms, read };
}

test("a VMM that counts is asked while its VM runs or is paused, and else nobody is", async (t) => {
  const { host, vms, read } = await setUp(t);
  host.driver.meter = { readMetrics: () => Promise.resolve(METRICS) };
  assert.equal((await read()).vmm, undefined);
  await vms.start("web", vms.background());
  const { vmm, memoryBytes } = await read();
  assert.deepEqual({ vmm, memoryBytes }, { vmm: METRICS, memoryBytes: 512 * MIB });
  await vms.pause("web", vms.background());
  assert.deepEqual((await read()).vmm, METRICS);
  await vms.stop("web", { mode: "kill", timeoutMs: 0 }, vms.background());
  assert.equal((await read()).vmm, undefined);
});

test("a VMM that counts nothing has no counts, and one that does not answer holds up nothing else", async (t) => {
  const { host, vms, read } = await setUp(t);
  await vms.start("web", vms.background());
  assert.equal("vmm" in (await read()), false);
  host.driver.meter = {
    readMetrics: () => Promise.reject(new HearthError("vmm.unresponsive", "It hangs.")),
  };
  const { vmm, memoryBytes, phase } = await read();
  assert.deepEqual({ vmm, memoryBytes, phase }, { vmm: undefined, memoryBytes: 512 * MIB, phase: "running" });
});

test("two who read at the same time do not spoil each other's CPU", async (t) => {
  const { host, vms, read } = await setUp(t);
  await vms.start("web", vms.background());
  let atMs = Date.now() + 10_000;
  let cpuTicks = 0;
  host.now = () => atMs;
  host.processes.usage = () => ({ cpuTicks, rssBytes: 0, vszBytes: 0 });
  await read();
  const assertHalf = async (): Promise<void> => {
    const { cpuPercent } = await read();
    assert.ok(Math.abs(cpuPercent - 50) < 3, `${cpuPercent} %`);
  };
  for (let second = 0; second < 3; second++) {
    atMs += 1_000;
    cpuTicks += 50;
    await assertHalf();
    await assertHalf(); // Right after another reader.
    atMs += 5;
    cpuTicks += 1; // 200 % of 5 ms.
    await assertHalf();
  }
});
