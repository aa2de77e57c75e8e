import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { FirecrackerClient } from "#drivers/firecracker/api/firecracker-client.ts";
import { parseFirecrackerVersion } from "#drivers/firecracker/api/firecracker-version.ts";
import { readMetrics } from "#drivers/firecracker/read-metrics.ts";
import { FirecrackerRecorder } from "#drivers/firecracker/recorder.ts";
import { FakeFirecrackerVm } from "#testing/fake-firecracker-vm.ts";

const signal = AbortSignal.timeout(60_000);
const LINE = {
  vcpu: { exit_io_in: 1, exit_io_out: 2, exit_mmio_read: 3, exit_mmio_write: 4, failures: 9 },
  block: {
    read_bytes: 4_096,
    write_bytes: 512,
    read_count: 2,
    write_count: 1,
    rate_limiter_throttled_events: 7,
  },
  vsock: { rx_bytes_count: 10, tx_bytes_count: 20 },
  logger: { missed_log_count: 5, missed_metrics_count: 6 },
  seccomp: { num_faults: 0 },
};

function setUp(vm: FakeFirecrackerVm) {
  const troubles: unknown[] = [];
  const recorder = new FirecrackerRecorder({
    files: vm.files,
    stateDir: vm.handle.stateDir,
    logMaxBytes: 1_000,
    resumed: false,
    onTrouble: (_, error) => troubles.push(error),
  });
  const client = new FirecrackerClient({
    socketPath: vm.files.api,
    version: parseFirecrackerVersion("1.12.1"),
  });
  return { recorder, client, troubles, [Symbol.dispose]: () => recorder.stop() };
}

describe("a reading of metrics", () => {
  test("has Firecracker write a line, and adds it up", async () => {
    await using vm = await FakeFirecrackerVm.start();
    using opened = setUp(vm);
    const { recorder, client } = opened;
    vm.metricsLine = () => JSON.stringify(LINE);
    const once = {
      vcpuExits: 10,
      blockReadBytes: 4_096,
      blockWriteBytes: 512,
      blockReadOps: 2,
      blockWriteOps: 1,
      blockThrottledCount: 7,
      vsockToGuestBytes: 10,
      vsockFromGuestBytes: 20,
      missedLogCount: 5,
      missedMetricsCount: 6,
      seccompFaultCount: 0,
    };
    assert.deepEqual(await readMetrics(recorder, client, signal), once);
    const twice = Object.fromEntries(Object.entries(once).map(([name, count]) => [name, 2 * count]));
    assert.deepEqual(await readMetrics(recorder, client, signal), twice);
    const flush = { request: "PUT /actions", body: { action_type: "FlushMetrics" } };
    assert.deepEqual(vm.changes, [flush, flush]);
  });

  test("is an error, and not the old numbers, when no line comes", async () => {
    await using vm = await FakeFirecrackerVm.start();
    using opened = setUp(vm);
    const { recorder, client } = opened;
    assert.equal((await readMetrics(recorder, client, signal)).vcpuExits, 1);
    vm.metricsLine = undefined;
    await assert.rejects(readMetrics(recorder, client, signal), { code: "vmm.unresponsive" });
  });

  test("is an error when the first line cannot be parsed", async () => {
    await using vm = await FakeFirecrackerVm.start();
    using opened = setUp(vm);
    vm.metricsLine = () => "not JSON";
    await assert.rejects(readMetrics(opened.recorder, opened.client, signal), { code: "vmm.unresponsive" });
    assert.equal(opened.troubles.length, 1);
  });
});
