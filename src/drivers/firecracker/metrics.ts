/**
 * Reads Firecracker's metrics: a JSON line each minute, and one more at each `flushMetrics`. Counters say what has
 * happened since the line before, so totals are sums of lines: `addMetrics`.
 */
import { HearthError } from "#base/error.ts";

// Hearth's name, and Firecracker's. All are counters since the last line.
const VCPU = {
  exitIoIn: "exit_io_in",
  exitIoOut: "exit_io_out",
  exitMmioRead: "exit_mmio_read",
  exitMmioWrite: "exit_mmio_write",
  failures: "failures",
} as const;
const BLOCK = {
  readBytes: "read_bytes",
  writeBytes: "write_bytes",
  readCount: "read_count",
  writeCount: "write_count",
  flushCount: "flush_count",
  throttledCount: "rate_limiter_throttled_events",
  executeFails: "execute_fails",
  eventFails: "event_fails",
} as const;
const NET = {
  rxBytes: "rx_bytes_count",
  txBytes: "tx_bytes_count",
  rxPackets: "rx_packets_count",
  txPackets: "tx_packets_count",
  rxFails: "rx_fails",
  txFails: "tx_fails",
  rxThrottledCount: "rx_rate_limiter_throttled",
  txThrottledCount: "tx_rate_limiter_throttled",
} as const;
const BALLOON = {
  inflateCount: "inflate_count",
  deflateCount: "deflate_count",
  statsUpdatesCount: "stats_updates_count",
  statsUpdateFails: "stats_update_fails",
  eventFails: "event_fails",
} as const;
const VSOCK = {
  rxBytes: "rx_bytes_count",
  txBytes: "tx_bytes_count",
  rxPackets: "rx_packets_count",
  txPackets: "tx_packets_count",
  connectionsAdded: "conns_added",
  connectionsKilled: "conns_killed",
  connectionsRemoved: "conns_removed",
  rxReadFails: "rx_read_fails",
  txWriteFails: "tx_write_fails",
  txFlushFails: "tx_flush_fails",
} as const;
/** Lines that did not reach the log or the metrics because they were not read fast enough. */
const LOGGER = {
  missedMetricsCount: "missed_metrics_count",
  missedLogCount: "missed_log_count",
  metricsFails: "metrics_fails",
} as const;

// Values, not counters: each line has the last one, in microseconds; `vmm…` is without the time in the API.
const LATENCIES = {
  fullCreateSnapshot: "full_create_snapshot",
  diffCreateSnapshot: "diff_create_snapshot",
  loadSnapshot: "load_snapshot",
  pauseVm: "pause_vm",
  resumeVm: "resume_vm",
  vmmFullCreateSnapshot: "vmm_full_create_snapshot",
  vmmDiffCreateSnapshot: "vmm_diff_create_snapshot",
  vmmLoadSnapshot: "vmm_load_snapshot",
  vmmPauseVm: "vmm_pause_vm",
  vmmResumeVm: "vmm_resume_vm",
} as const;
const STARTUP = {
  processStartupTimeUs: "process_startup_time_us",
  processStartupTimeCpuUs: "process_startup_time_cpu_us",
} as const;

type Names = Readonly<Record<string, string>>;
type Numbers<Table extends Names> = { readonly [Name in keyof Table]: number };

/** The metrics that Hearth reads. Those that a version lacks are 0. */
export type FirecrackerMetrics = {
  /** The time of the line; in a sum, of the newest line. */
  readonly utcTimestampMs: number;
  readonly vcpu: Numbers<typeof VCPU>;
  /** All drives together. No name from a line is kept: a VMM that was taken over could invent new ones without end. */
  readonly block: Numbers<typeof BLOCK>;
  /** All interfaces together. */
  readonly net: Numbers<typeof NET>;
  readonly balloon: Numbers<typeof BALLOON>;
  readonly vsock: Numbers<typeof VSOCK>;
  readonly logger: Numbers<typeof LOGGER>;
  /** System calls that seccomp refused, of the whole process. One ends it. */
  readonly seccompFaults: number;
  readonly latenciesUs: Numbers<typeof LATENCIES>;
  readonly startup: Numbers<typeof STARTUP>;
};

/**
 * Parses one line of the metrics file or pipe. Ignores unknown fields.
 * @throws HearthError `vmm.failed` when it is not a JSON object
 */
export function parseMetrics(line: string): FirecrackerMetrics {
  const all = parseObject(line);
  return {
    utcTimestampMs: numberOf(all["utc_timestamp_ms"]),
    vcpu: read(all["vcpu"], VCPU),
    block: read(all["block"], BLOCK),
    net: read(all["net"], NET),
    balloon: read(all["balloon"], BALLOON),
    vsock: read(all["vsock"], VSOCK),
    logger: read(all["logger"], LOGGER),
    seccompFaults: numberOf(objectOf(all["seccomp"])["num_faults"]),
    latenciesUs: read(all["latencies_us"], LATENCIES),
    startup: read(all["api_server"], STARTUP),
  };
}

/** Adds counters; times, latencies and seccomp faults are those of `next`, the newer line. Pure. */
export function addMetrics(total: FirecrackerMetrics, next: FirecrackerMetrics): FirecrackerMetrics {
  return {
    ...next,
    vcpu: add(total.vcpu, next.vcpu),
    block: add(total.block, next.block),
    net: add(total.net, next.net),
    balloon: add(total.balloon, next.balloon),
    vsock: add(total.vsock, next.vsock),
    logger: add(total.logger, next.logger),
  };
}

function parseObject(line: string): Readonly<Record<string, unknown>> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(line);
  } catch (cause) {
    throw new HearthError("vmm.failed", "A line of Firecracker's metrics is not JSON.", { cause });
  }
  if (typeof parsed === "object" && parsed !== null && !Array.isArray(parsed)) return objectOf(parsed);
  throw new HearthError("vmm.failed", "A line of Firecracker's metrics is not an object.");
}

function objectOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

function numberOf(value: unknown): number {
  return typeof value === "number" ? value : 0;
}

function read<Table extends Names>(section: unknown, table: Table): Numbers<Table> {
  const given = objectOf(section);
  const entries = Object.entries(table).map(([name, wireName]) => [name, numberOf(given[wireName])]);
  return Object.fromEntries(entries) as Numbers<Table>;
}

function add<Counts extends Readonly<Record<string, number>>>(one: Counts, other: Counts): Counts {
  const sums = Object.entries(one).map(([name, count]) => [name, count + (other[name] ?? 0)]);
  return Object.fromEntries(sums) as Counts;
}
