import type { DoctorCheck } from "#api/wire.ts";
import type { Ending } from "#daemon/lifecycle/ending.ts";
import type { Host } from "#daemon/host.ts";
import type { Operations } from "#daemon/operations/operations.ts";
import type { Pools } from "#daemon/template/pools.ts";
import type { Snapshots } from "#daemon/snapshot/snapshots.ts";
import type { Templates } from "#daemon/template/templates.ts";
import type { Vms } from "#daemon/vm/vms.ts";
import type { StatsReader } from "#daemon/view/vm-stats.ts";

/** The parts of hearthd that its HTTP side uses. */
export type Daemon = {
  readonly host: Host;
  readonly vms: Vms;
  readonly snapshots: Snapshots;
  readonly templates: Templates;
  readonly pools: Pools;
  readonly stats: StatsReader;
  /** The operations that clients have asked for. */
  readonly operations: Operations;
  readonly version: string;
  readonly startedAtMs: number;
  /** Checks whether KVM really boots a guest here; the result is kept, unless `fresh`. */
  checkKvm(fresh: boolean, signal: AbortSignal): Promise<DoctorCheck>;
  /** Ends hearthd, and knows when it does; VMs keep running. */
  readonly ending: Ending;
};
