import type { TestContext } from "node:test";
import type { CreateVm } from "#api/wire.ts";
import { hearthVersion } from "#base/version.ts";
import type { Daemon } from "#daemon/daemon.ts";
import type { Host } from "#daemon/host.ts";
import { Ending } from "#daemon/lifecycle/ending.ts";
import { recover } from "#daemon/lifecycle/recover.ts";
import { Operations } from "#daemon/operations/operations.ts";
import { Pools } from "#daemon/template/pools.ts";
import { Snapshots } from "#daemon/snapshot/snapshots.ts";
import { StatsReader } from "#daemon/view/vm-stats.ts";
import { Vms } from "#daemon/vm/vms.ts";
import { Templates } from "#daemon/template/templates.ts";
import type { TemplateTiming } from "#daemon/template/templates.ts";
import type { VmRecord } from "#model/vm.ts";
import { letWork } from "#testing/fake-guest.ts";
import { FakeHost, FakeMachine } from "#testing/fake-host.ts";
import type { FakeHostOptions } from "#testing/fake-host.ts";

/** Short in tests, which do not wait for a quiet host. */
const AT_ONCE: TemplateTiming = { idleMs: 0, patienceMs: 0, retryMs: 3_600_000 };

type DaemonParts = Pick<Daemon, "vms" | "snapshots" | "templates" | "pools">;

/** Makes a hearthd as its HTTP side sees it. */
export function daemonOver(host: Host, parts = fakeDaemonParts(host), more: Partial<Daemon> = {}): Daemon {
  return {
    host,
    ...parts,
    stats: new StatsReader(host),
    version: hearthVersion(),
    startedAtMs: 0,
    checkKvm: async () => ({ name: "kvm", verdict: "pass", found: "" }),
    ending: new Ending(),
    operations: new Operations(),
    ...more,
  };
}

/** Makes what `runDaemon` makes of a host. */
export function fakeDaemonParts(host: Host, vms = new Vms(host), timing = AT_ONCE): DaemonParts {
  const snapshots = new Snapshots(host, vms);
  const templates = new Templates(host, vms, snapshots, timing);
  return { vms, snapshots, templates, pools: new Pools(host, vms, templates, 0) };
}

/** Makes a machine with a hearthd that runs until the end of the test. */
export async function useFakeDaemon(
  t: TestContext,
  options: ConstructorParameters<typeof FakeDaemon>[1] = {},
): Promise<FakeDaemon> {
  const machine = new FakeMachine();
  const daemon = await new FakeDaemon(machine, options).begin();
  t.after(async () => {
    await daemon.end();
    machine[Symbol.dispose]();
  });
  return daemon;
}

/** VMs have a network, so that every story makes and removes one. */
const WITH_NETWORK: Omit<CreateVm, "name"> = { image: "debian", network: "nat" };

/** A hearthd on a fake machine, from its start to its end, without an API. */
export class FakeDaemon {
  readonly host: FakeHost;
  readonly vms: Vms;
  readonly snapshots: Snapshots;
  readonly templates: Templates;
  readonly pools: Pools;

  constructor(machine: FakeMachine, options: FakeHostOptions & { readonly timing?: TemplateTiming } = {}) {
    this.host = new FakeHost(machine, options);
    const { vms, snapshots, templates, pools } = fakeDaemonParts(this.host, undefined, options.timing);
    this.vms = vms;
    this.snapshots = snapshots;
    this.templates = templates;
    this.pools = pools;
  }

  /** Starts as `runDaemon` does, and recovers all VMs. */
  async begin(): Promise<this> {
    await (
      await recover(this.host, this.vms)
    ).done;
    this.vms.whenBooted((vm, started) => this.templates.booted(vm, started));
    return this;
  }

  /** Makes a running VM whose guest has written to its disk this many times. */
  async run(name: string, times = 0, more: Omit<CreateVm, "name"> = WITH_NETWORK): Promise<VmRecord> {
    await this.vms.create({ ...more, name }, false, this.vms.background());
    const vm = await this.vms.start(name, this.vms.background());
    this.work(name, times);
    return vm;
  }

  work(name: string, times = 1): void {
    for (let done = 0; done < times; done++) letWork(this.host.machine.vmm(name));
  }

  /** Ends hearthd; its VMs run on. */
  async end(): Promise<void> {
    await this.vms.restarts.end();
    await this.pools.end();
    await this.templates.end();
    this.drop();
  }

  /** Releases everything that a killed process would not have any more. */
  drop(): void {
    void this.vms.restarts.end();
    this.vms.detachAll();
    this.host.store.close();
  }
}
