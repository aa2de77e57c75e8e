import type { Daemon } from "#daemon/daemon.ts";
import { sweepSnapshots } from "#daemon/drop-snapshot.ts";
import type { Host } from "#daemon/host.ts";
import { recover } from "#daemon/recover.ts";
import { Pools } from "#daemon/pools.ts";
import { Snapshots } from "#daemon/snapshots.ts";
import { Vms } from "#daemon/vms.ts";
import { WarmTemplates } from "#daemon/warm-templates.ts";
import type { WarmTiming } from "#daemon/warm-templates.ts";
import { FakeHost } from "#testing/fake-host.ts";
import type { FakeHostOptions, FakeMachine } from "#testing/fake-host.ts";

/** For tests: nobody waits for a host that is quiet. */
const AT_ONCE: WarmTiming = { idleMs: 0, patienceMs: 0 };

/** What `runDaemon` makes of a host. */
export function fakeDaemonParts(
  host: Host,
  vms = new Vms(host),
  timing = AT_ONCE,
): Pick<Daemon, "vms" | "snapshots" | "warm" | "pools"> {
  const snapshots = new Snapshots(host, vms);
  const warm = new WarmTemplates(host, vms, snapshots, timing);
  return { vms, snapshots, warm, pools: new Pools(host, vms, warm) };
}

/** One hearthd on a fake machine, from its start to its end, without an API. */
export class FakeDaemon {
  readonly host: FakeHost;
  readonly vms: Vms;
  readonly snapshots: Snapshots;
  readonly warm: WarmTemplates;

  constructor(machine: FakeMachine, options: FakeHostOptions & { readonly timing?: WarmTiming } = {}) {
    this.host = new FakeHost(machine, options);
    const { vms, snapshots, warm } = fakeDaemonParts(this.host, undefined, options.timing);
    this.vms = vms;
    this.snapshots = snapshots;
    this.warm = warm;
  }

  /** As `runDaemon` does before it listens. */
  async begin(): Promise<this> {
    await recover(this.host, this.vms);
    await sweepSnapshots(this.host);
    this.vms.whenBooted((vm) => this.warm.booted(vm));
    return this;
  }

  /** VMs go on. */
  async end(): Promise<void> {
    await this.warm.end();
    this.drop();
  }

  /** Lets go of all that a process that is killed would not have any more. */
  drop(): void {
    this.vms.detachAll();
    this.host.store.close();
  }
}
