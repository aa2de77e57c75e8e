import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { connect } from "node:net";
import type { Socket } from "node:net";
import type { TestContext } from "node:test";
import type { CreateVm } from "#api/wire.ts";
import { apiSocketPath, hearthDirs } from "#base/hearth-dirs.ts";
import { hearthVersion } from "#base/version.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { daemonServices } from "#daemon/lifecycle/daemon-services.ts";
import { Services } from "#daemon/lifecycle/service.ts";
import { ApiServer } from "#daemon/http/api-server.ts";
import { unixListener } from "#daemon/http/listener.ts";
import type { Listener } from "#daemon/http/listener.ts";
import type { VmRecord } from "#model/vm.ts";
import type { VmPhase } from "#model/vm-state.ts";
import { Hearth } from "#sdk/hearth.ts";
import { Transport } from "#sdk/transport.ts";
import { daemonOver } from "#testing/fake-daemon.ts";
import { FakeHost, FakeMachine } from "#testing/fake-host.ts";
import type { FakeHostOptions } from "#testing/fake-host.ts";
import type { FakeVmm } from "#testing/fake-vmms.ts";
import type { GuestCommand } from "#testing/guest-command.ts";

export type ServedOptions = FakeHostOptions & {
  /** The version that it tells; that of these sources unless a test says otherwise. */
  readonly version?: string;
};

/** hearthd's real API on a real socket, over a fake host: for tests of the API, the SDK and the command line. */
export class ServedDaemon {
  readonly host: FakeHost;
  readonly daemon: Daemon;
  /** The HEARTH_HOME with which a command line finds it. */
  readonly home: string;
  readonly socketPath: string;
  readonly #api: ApiServer;
  readonly #services: Services;
  /** How many requests have come, those for a WebSocket among them. */
  requests = 0;

  constructor(machine: FakeMachine, options: ServedOptions = {}, more: readonly Listener[] = []) {
    const host = new FakeHost(machine, options);
    this.host = host;
    this.home = machine.dir;
    this.socketPath = apiSocketPath(hearthDirs({ HEARTH_HOME: this.home }, "/"));
    const { version = hearthVersion() } = options;
    this.daemon = daemonOver(host, undefined, { version });
    this.#api = new ApiServer(this.daemon, [unixListener(this.socketPath), ...more]);
    this.#services = new Services(daemonServices(this.daemon, this.#api), host.log);
    host.bus.subscribe(() => machine.vmms.changed());
  }

  /** Starts it as far as it answers: its VMs may be yet to be recovered. */
  async answering(): Promise<this> {
    for (const path of Object.values(this.host.dirs)) mkdirSync(path, { recursive: true });
    await this.#services.start();
    return this;
  }

  async listen(): Promise<this> {
    await this.answering();
    await this.daemon.vms.idle(); // All are recovered.
    for (const event of ["request", "upgrade"]) this.#api.servers[0]?.on(event, () => (this.requests += 1));
    return this;
  }

  /** A client of it. */
  client(): Promise<Hearth> {
    return Hearth.connect({ socketPath: this.socketPath, autostart: false });
  }

  transport(): Transport {
    return new Transport(this.socketPath);
  }

  /** A bare connection to its socket; what becomes of it is the test's to see. */
  async connect(): Promise<Socket> {
    const socket = connect(this.socketPath);
    await once(socket, "connect");
    return socket.on("error", () => undefined); // A server may hang up at any time.
  }

  /** Has the next accept fail, as it does without file descriptors. */
  failAccept(error: Error): void {
    this.#api.servers[0]?.emit("error", error);
  }

  /** Makes a VM, which has never run. */
  create(name: string, more: Omit<CreateVm, "name"> = { image: "debian" }): Promise<VmRecord> {
    const { vms } = this.daemon;
    return vms.create({ ...more, name }, false, vms.background());
  }

  /** Makes a VM that runs. */
  async run(name: string, more?: Omit<CreateVm, "name">): Promise<FakeVmm> {
    const { vms } = this.daemon;
    await this.create(name, more);
    await vms.start(name, vms.background());
    return this.host.machine.vmm(name);
  }

  /** Makes a VM that has run, and is stopped. */
  async runAndStop(name: string, more?: Omit<CreateVm, "name">): Promise<void> {
    const { vms } = this.daemon;
    await this.run(name, more);
    await vms.stop(name, { mode: "graceful", timeoutMs: 1_000 }, vms.background());
  }

  /** The VM of this name, if there is one. */
  vm(name: string): VmRecord | undefined {
    return this.host.store.findVm(name);
  }

  phase(name: string): VmPhase | undefined {
    return this.vm(name)?.state.phase;
  }

  /** The VMs' names. */
  names(): string[] {
    return this.host.store.listVms().map(({ name }) => name);
  }

  /** The commands that guests were asked for, in order for each. */
  commands(): readonly GuestCommand[] {
    return this.host.machine.vmms.started().flatMap(({ commands }) => commands);
  }

  /** Resolves when `holds` does, which is asked again after each event of hearthd and each change in a guest. */
  async until(holds: () => boolean): Promise<void> {
    const { signal } = new AbortController();
    while (!holds()) await this.host.machine.vmms.change(signal);
  }

  /** Ends it as `runDaemon` does; false when something is still under way. Idempotent. */
  async end(drainMs?: number): Promise<boolean> {
    this.daemon.ending.begin("the test");
    return this.#services.end(drainMs === undefined ? undefined : { drainMs, stopMs: 5_000 });
  }
}

/** Serves the API of a fake machine until the end of the test. */
export async function serveDaemon(t: TestContext, options: ServedOptions = {}): Promise<ServedDaemon> {
  const machine = new FakeMachine();
  const served = await new ServedDaemon(machine, options).listen();
  t.after(async () => {
    await served.end();
    machine[Symbol.dispose]();
  });
  return served;
}
