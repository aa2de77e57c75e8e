import type { VmStats } from "#api/wire.ts";
import { driverOf } from "#daemon/spec/choose-driver.ts";
import type { Host } from "#daemon/host.ts";
import { readMemoryOf } from "#daemon/spec/lacking-features.ts";
import { vmPaths } from "#daemon/store/paths.ts";
import type { VmmMetrics } from "#drivers/vm-driver.ts";
import { readCardCounters, readLinkCounters } from "#host/link-counters.ts";
import { TICKS_PER_SECOND } from "#host/procfs.ts";
import type { ProcessUsage } from "#host/procfs.ts";
import type { VmId } from "#model/ids.ts";
import { hostLink, INSIDE } from "#model/inside-addresses.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import { handleOf } from "#model/vm-state.ts";
import type { VmRecord } from "#model/vm.ts";

/** The limit for answers of the VMM. */
const VMM_DEADLINE_MS = 1_000;

type FromVmm = {
  readonly memoryBytes: number | undefined;
  readonly metrics: VmmMetrics | undefined;
};
type Reading = { readonly cpuTicks: number; readonly atMs: number };

/** The shortest interval between two readings: the kernel counts CPU time in ticks of 10 ms. */
const INTERVAL_MS = 1_000;

/**
 * Reads what VMs use of the host. CPU is a difference, so earlier readings of each VM are kept: the newest, and the
 * newest that was INTERVAL_MS older. So many clients that read at once do not shorten each other's interval.
 */
export class StatsReader {
  readonly #host: Host;
  readonly #last = new Map<VmId, { readonly newest: Reading; readonly older: Reading }>();

  constructor(host: Host) {
    this.#host = host;
    host.bus.subscribe((event) => {
      if (event.type === "vm.removed") this.#last.delete(event.id as VmId);
    });
  }

  async read(vm: VmRecord): Promise<VmStats> {
    const host = this.#host;
    const now = host.now();
    const handle = handleOf(vm.state);
    const usage = handle === undefined ? undefined : host.processes.usage(handle.processes[0]);
    const used = usage === undefined ? 0 : this.#cpuPercent(vm.id, usage);
    if (usage === undefined) this.#last.delete(vm.id);
    const [fromVmm, disk] = await Promise.all([
      handle === undefined ? undefined : this.#askVmm(vm, handle),
      host.disks.usage(vmPaths(host.dirs, vm.id).stateDir),
    ]);
    return {
      id: vm.id,
      name: vm.name,
      phase: vm.state.phase,
      collectedAtMs: now,
      cpuPercent: used,
      rssBytes: usage?.rssBytes ?? 0,
      vszBytes: usage?.vszBytes ?? 0,
      memoryBytes: fromVmm?.memoryBytes,
      diskAllocatedBytes: disk.allocatedBytes,
      diskBytes: disk.sizeBytes,
      network: handle === undefined || usage === undefined ? undefined : trafficOf(vm.id, handle),
      vmm: fromVmm?.metrics,
    };
  }

  /**
   * Compares with an earlier reading of the same process; the first time with the process's own start, which used
   * nothing. The start of the VM would be wrong: it is the time at which its guest answered, and the CPU time includes
   * the boot.
   */
  #cpuPercent(id: VmId, { cpuTicks, ageMs }: ProcessUsage): number {
    const now = { cpuTicks, atMs: this.#host.uptimeMs() };
    const start = { cpuTicks: 0, atMs: now.atMs - ageMs };
    const last = this.#last.get(id);
    // Readings of an earlier VMM say nothing about this one.
    const isKnown = last !== undefined && last.newest.atMs >= start.atMs;
    const { newest, older } = isKnown ? last : { newest: start, older: start };
    const hasPassed = now.atMs - newest.atMs >= INTERVAL_MS;
    this.#last.set(id, hasPassed ? { newest: now, older: newest } : { newest, older });
    return cpuPercent(hasPassed ? newest : older, now);
  }

  /** Asks the VMM, with a deadline: the host's own numbers do not wait for one that does not answer. */
  async #askVmm({ state }: VmRecord, handle: VmHandle): Promise<FromVmm> {
    const driver = driverOf(this.#host, handle.driver);
    const isRunning = state.phase === "running";
    const signal = AbortSignal.timeout(VMM_DEADLINE_MS);
    const [memory, metrics] = await Promise.all([
      isRunning ? orUnknown(readMemoryOf(driver, handle, signal)) : undefined,
      isRunning || state.phase === "paused"
        ? orUnknown(driver.meter?.readMetrics(handle, signal))
        : undefined,
    ]);
    return { memoryBytes: memory?.bytes, metrics };
  }
}

/**
 * Returns the traffic from the guest's point of view: the host's end receives what the guest sends. Without root, the
 * network has no link to the host, and hearthd may read the namespace of the VMM.
 */
function trafficOf(id: VmId, { processes: [vmm] }: VmHandle): VmStats["network"] {
  const link = readLinkCounters(hostLink(id)) ?? readCardCounters(vmm.pid, INSIDE.tap);
  if (link === undefined) return undefined;
  return {
    sentBytes: link.receivedBytes,
    sentPackets: link.receivedPackets,
    receivedBytes: link.sentBytes,
    receivedPackets: link.sentPackets,
  };
}

function orUnknown<Value>(asked: Promise<Value> | undefined): Promise<Value | undefined> | undefined {
  return asked?.then(
    (value) => value,
    () => undefined, // The VMM ends, or hangs; `hearth show` says so.
  );
}

function cpuPercent(before: Reading, now: Reading): number {
  const seconds = (now.atMs - before.atMs) / 1000;
  if (seconds <= 0) return 0;
  return Math.round(((now.cpuTicks - before.cpuTicks) / TICKS_PER_SECOND / seconds) * 1000) / 10;
}
