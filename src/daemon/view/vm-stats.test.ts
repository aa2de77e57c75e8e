import assert from "node:assert/strict";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { vmStatsSchema } from "#api/vm-stats-schemas.ts";
import { HearthError } from "#base/error.ts";
import { MIB } from "#base/sizes.ts";
import { StatsReader } from "#daemon/view/vm-stats.ts";
import { Vms } from "#daemon/vm/vms.ts";
import type { VmmMetrics } from "#drivers/vm-driver.ts";
import { findProcess, readUsage } from "#host/procfs.ts";
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

test("a VMM with metrics is asked while its VM runs or is paused, and no VMM otherwise", async (t) => {
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

test("a VMM without metrics has none, and one that does not answer delays nothing else", async (t) => {
  const { host, vms, read } = await setUp(t);
  await vms.start("web", vms.background());
  assert.equal("vmm" in (await read()), false);
  host.driver.meter = {
    readMetrics: () => Promise.reject(new HearthError("vmm.unresponsive", "It hangs.")),
  };
  const { vmm, memoryBytes, phase } = await read();
  assert.deepEqual({ vmm, memoryBytes, phase }, { vmm: undefined, memoryBytes: 512 * MIB, phase: "running" });
});

test("two clients that read at the same time do not spoil each other's CPU", async (t) => {
  const { host, vms, read } = await setUp(t);
  await vms.start("web", vms.background());
  let atMs = 10_000;
  let cpuTicks = 0;
  host.uptimeMs = () => atMs;
  host.processes.usage = () => ({ cpuTicks, rssBytes: 0, vszBytes: 0, ageMs: atMs - 5_000 });
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

test("right after its boot, and when it was started again, a VM's CPU is what its own VMM has used since its start", async (t) => {
  const { host, vms, read } = await setUp(t);
  await vms.start("web", vms.background());
  let atMs = 100_000;
  // Both CPUs were busy for all of a boot of 20 s, and the guest has just answered.
  let usage = { cpuTicks: 4_000, rssBytes: 1, vszBytes: 1, ageMs: 20_000 };
  host.uptimeMs = () => atMs;
  host.now = () => Date.now() + 60_000; // The host's clock was set.
  host.processes.usage = () => usage;
  assert.equal((await read()).cpuPercent, 200);
  atMs += 10_000;
  usage = { cpuTicks: 5_000, rssBytes: 1, vszBytes: 1, ageMs: 5_000 };
  assert.equal((await read()).cpuPercent, 1_000, "of this VMM alone");
});

test("the CPU and the memory of a process that works are seen to rise", async () => {
  const self = findProcess(process.pid);
  assert.ok(self);
  const before = readUsage(self);
  const held = Buffer.alloc(64 * MIB, 1);
  while (process.cpuUsage().user / 10_000 < (before?.cpuTicks ?? 0) + 5);
  const after = readUsage(self);
  assert.ok(before && after && held.length > 0);
  assert.ok(after.cpuTicks > before.cpuTicks, `${before.cpuTicks} to ${after.cpuTicks} ticks`);
  assert.ok(after.rssBytes >= before.rssBytes + 32 * MIB, `${before.rssBytes} to ${after.rssBytes} bytes`);
  assert.ok(after.ageMs >= before.ageMs && Math.abs(after.ageMs / 1000 - process.uptime()) < 5);
});
