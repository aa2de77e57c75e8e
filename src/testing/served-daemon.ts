import { once } from "node:events";
import { connect } from "node:net";
import type { Socket } from "node:net";
import { join } from "node:path";
import type { TestContext } from "node:test";
import type { Daemon } from "#daemon/daemon.ts";
import { Ending } from "#daemon/lifecycle/ending.ts";
import { Operations } from "#daemon/operations/operations.ts";
import { daemonServices } from "#daemon/lifecycle/daemon-services.ts";
import { Services } from "#daemon/lifecycle/service.ts";
import { ApiServer } from "#daemon/http/api-server.ts";
import { unixListener } from "#daemon/http/listener.ts";
import type { Listener } from "#daemon/http/listener.ts";
import { StatsReader } from "#daemon/view/vm-stats.ts";
import { Hearth } from "#sdk/hearth.ts";
import { Transport } from "#sdk/transport.ts";
import { fakeDaemonParts } from "#testing/fake-daemon.ts";
import { FakeHost, FakeMachine } from "#testing/fake-host.ts";
import type { FakeHostOptions } from "#testing/fake-host.ts";

/** hearthd's real API on a real socket, over a fake host. */
export class ServedDaemon {
  readonly host: FakeHost;
  readonly daemon: Daemon;
  readonly socketPath: string;
  readonly #api: ApiServer;
  readonly #services: Services;
  /** How many requests have come. */
  requests = 0;

  constructor(machine: FakeMachine, options: FakeHostOptions = {}, more: readonly Listener[] = []) {
    const host = new FakeHost(machine, options);
    const parts = fakeDaemonParts(host);
    this.host = host;
    this.socketPath = join(machine.folder, "api.sock");
    this.daemon = {
      host,
      ...parts,
      stats: new StatsReader(host),
      version: "1.2.3",
      startedAtMs: 0,
      checkKvm: async () => ({ name: "kvm", verdict: "pass", found: "" }),
      ending: new Ending(),
      operations: new Operations(),
    };
    this.#api = new ApiServer(this.daemon, [unixListener(this.socketPath), ...more]);
    this.#services = new Services(daemonServices(this.daemon, this.#api), host.log);
  }

  async listen(): Promise<this> {
    await this.#services.start();
    await this.daemon.vms.idle(); // All are recovered.
    this.#api.servers[0]?.on("request", () => (this.requests += 1));
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

  /** A VM that runs. */
  async run(name: string): Promise<void> {
    const { vms } = this.daemon;
    await vms.create({ image: "debian", name }, false, vms.background());
    await vms.start(name, vms.background());
  }

  /** Ends it as `runDaemon` does; false when something is still under way. Idempotent. */
  async end(drainMs?: number): Promise<boolean> {
    this.daemon.ending.begin("the test");
    return this.#services.end(drainMs === undefined ? undefined : { drainMs, stopMs: 5_000 });
  }
}

/** Serves the API of a fake machine until the end of the test. */
export async function serveDaemon(t: TestContext, options: FakeHostOptions = {}): Promise<ServedDaemon> {
  const machine = new FakeMachine();
  const served = await new ServedDaemon(machine, options).listen();
  t.after(async () => {
    await served.end();
    machine[Symbol.dispose]();
  });
  return served;
}
