import { once } from "node:events";
import { connect } from "node:net";
import type { Socket } from "node:net";
import { join } from "node:path";
import type { TestContext } from "node:test";
import type { Daemon } from "#daemon/daemon.ts";
import { Ending } from "#daemon/lifecycle/ending.ts";
import { Operations } from "#daemon/operations/operations.ts";
import { drain } from "#daemon/lifecycle/end-daemon.ts";
import { ApiServer } from "#daemon/http/api-server.ts";
import { IdleVms } from "#daemon/vm/idle-vms.ts";
import { recover } from "#daemon/lifecycle/recover.ts";
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
  readonly #idle: IdleVms;
  #server: ApiServer | undefined;
  #isOver = false;
  /** How many requests have come. */
  requests = 0;

  constructor(machine: FakeMachine, options: FakeHostOptions = {}) {
    const host = new FakeHost(machine, options);
    const parts = fakeDaemonParts(host);
    this.host = host;
    this.socketPath = join(machine.folder, "api.sock");
    this.#idle = new IdleVms(host, parts.vms, parts.snapshots);
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
  }

  async listen(): Promise<this> {
    await (
      await recover(this.host, this.daemon.vms)
    ).done;
    this.#server = await ApiServer.listen(this.daemon, this.socketPath);
    this.#server.http.on("request", () => (this.requests += 1));
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
    this.#server?.http.emit("error", error);
  }

  /** A VM that runs. */
  async run(name: string): Promise<void> {
    const { vms } = this.daemon;
    await vms.create({ image: "debian", name }, false, vms.background());
    await vms.start(name, vms.background());
  }

  /** Ends it as `runDaemon` does; false when something is still under way, and nothing is closed. Idempotent. */
  async end(drainMs?: number): Promise<boolean> {
    if (this.#isOver || this.#server === undefined) return true;
    const { ending, vms, warm, pools } = this.daemon;
    ending.begin("the test");
    if (!(await drain(this.daemon, this.#server, [this.#idle, vms.restarts, pools, warm], drainMs)))
      return false;
    this.#isOver = true;
    vms.detachAll();
    this.host.store.close();
    return true;
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
