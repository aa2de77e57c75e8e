import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { addMetrics, parseMetrics } from "#drivers/firecracker/metrics.ts";

/** A line in the form of 1.12.1, with numbers in it; what `stats` does not show is shortened. */
const LINE = {
  utc_timestamp_ms: 1_795_334_815_553,
  api_server: { process_startup_time_us: 11_000, process_startup_time_cpu_us: 4_000, sync_response_fails: 0 },
  balloon: { activate_fails: 0, inflate_count: 3, stats_updates_count: 60, deflate_count: 1, event_fails: 0 },
  block_rootfs: { flush_count: 2, read_bytes: 4_096, write_bytes: 512, read_count: 1, write_count: 1 },
  block_my_data: { read_bytes: 1_024, read_count: 1, read_agg: { min_us: 1, max_us: 9, sum_us: 10 } },
  block: { read_bytes: 5_120, write_bytes: 512, read_count: 2, rate_limiter_throttled_events: 7 },
  vhost_user_block_x: { activate_time_us: 5 },
  latencies_us: { full_create_snapshot: 900, pause_vm: 12, vmm_pause_vm: 10 },
  logger: { missed_metrics_count: 1, metrics_fails: 0, missed_log_count: 2, log_fails: 0 },
  net_eth0: { rx_bytes_count: 10, tx_bytes_count: 20, rx_packets_count: 1, tx_packets_count: 2 },
  net: { rx_bytes_count: 10, tx_bytes_count: 20, tx_rate_limiter_throttled: 4 },
  seccomp: { num_faults: 1 },
  vcpu: { exit_io_in: 5, exit_io_out: 6, exit_mmio_read: 7, exit_mmio_write: 8, failures: 0 },
  vsock: { rx_bytes_count: 100, tx_bytes_count: 200, conns_added: 2, conns_killed: 1, conns_removed: 1 },
  signals: { sigbus: 0 },
};
const line = (over: object = {}): string => JSON.stringify({ ...LINE, ...over });

describe("a line of metrics", () => {
  test("has counters of CPU, disks, network, balloon, vsock, and of missed lines", () => {
    const metrics = parseMetrics(line());
    assert.equal(metrics.utcTimestampMs, 1_795_334_815_553);
    assert.deepEqual(metrics.vcpu, {
      exitIoIn: 5,
      exitIoOut: 6,
      exitMmioRead: 7,
      exitMmioWrite: 8,
      failures: 0,
    });
    assert.equal(metrics.block.readBytes, 5_120);
    assert.equal(metrics.block.throttledCount, 7);
    assert.equal(metrics.net.txBytes, 20);
    assert.equal(metrics.net.txThrottledCount, 4);
    assert.equal(metrics.balloon.inflateCount, 3);
    assert.equal(metrics.vsock.connectionsAdded, 2);
    assert.equal(metrics.vsock.txBytes, 200);
    assert.equal(metrics.seccompFaults, 1);
    assert.equal(metrics.latenciesUs.fullCreateSnapshot, 900);
    assert.equal(metrics.latenciesUs.vmmPauseVm, 10);
    assert.equal(metrics.startup.processStartupTimeUs, 11_000);
    assert.deepEqual(metrics.logger, { missedMetricsCount: 1, missedLogCount: 2, metricsFails: 0 });
  });

  test("may lack sections and fields, which are 0, and have unknown ones", () => {
    const metrics = parseMetrics(
      '{"future": {"a": 1}, "vcpu": null, "block": 7, "net": {"rx_fails": "many"}}',
    );
    assert.equal(metrics.utcTimestampMs, 0);
    for (const section of [metrics.vcpu, metrics.block, metrics.net, metrics.vsock, metrics.latenciesUs])
      assert.deepEqual(new Set(Object.values(section)), new Set([0]));
  });

  test("that is cut off, or not an object, is an error", () => {
    for (const text of ["", line().slice(0, 100), "[]", "null", "7"])
      assert.throws(() => parseMetrics(text), { code: "vmm.failed" });
  });
});

describe("the sum of lines", () => {
  test("has counters since the start, and the newest of other values", () => {
    const later = {
      utc_timestamp_ms: 1_795_334_875_553,
      latencies_us: { pause_vm: 99 },
      seccomp: { num_faults: 1 },
    };
    const sum = addMetrics(parseMetrics(line()), parseMetrics(line(later)));
    assert.equal(sum.vcpu.exitIoOut, 12);
    assert.equal(sum.block.readBytes, 10_240);
    assert.equal(sum.net.txBytes, 40);
    assert.equal(sum.logger.missedLogCount, 4);
    assert.equal(sum.utcTimestampMs, 1_795_334_875_553);
    assert.equal(sum.latenciesUs.pauseVm, 99);
    assert.equal(sum.seccompFaults, 1);
  });

  test("does not grow by names that a VMM invents, such as those of drives", () => {
    const names = (from: number): object =>
      Object.fromEntries(
        Array.from({ length: 1_000 }, (_, index) => [`block_made_up_${from + index}`, { read_count: 1 }]),
      );
    const first = parseMetrics(line());
    const size = JSON.stringify(addMetrics(first, first)).length;
    let sum = first;
    for (let from = 0; from < 10_000; from += 1_000)
      sum = addMetrics(sum, parseMetrics(line({ ...names(from), [`net_${from}`]: { rx_bytes_count: 1 } })));
    assert.ok(JSON.stringify(sum).length < size + 100);
    assert.equal(sum.block.readBytes, 11 * 5_120);
  });
});
