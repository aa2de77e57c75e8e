/**
 * The client of hearthd, for programs. The command line is built on it and has no other access to hearthd.
 *
 * @example
 * import { Hearth } from "hearthd";
 *
 * const hearth = await Hearth.connect();
 * const vm = await hearth.vms.create({ image: "debian", name: "web" });
 * await vm.start();
 * const { exitCode, stdout } = await vm.exec(["uname", "-a"]);
 * await vm.remove({ force: true });
 */
import type { ApiEvent } from "#api/events.ts";
import type { CreateVm, DaemonStatus, Doctor, Exec, Image, Kernel, Operation, Vm } from "#api/wire.ts";
import { HearthError } from "#base/error.ts";
import { apiSocketPath, hearthDirs } from "#base/hearth-dirs.ts";
import type { Dirs } from "#base/hearth-dirs.ts";
import { LIMITS } from "#model/limits.ts";
import { Firecrackers } from "#sdk/firecrackers.ts";
import { GuestProcess } from "#sdk/guest-process.ts";
import type { GuestProcessOptions } from "#sdk/guest-process.ts";
import { HearthVm } from "#sdk/hearth-vm.ts";
import { withProgress } from "#sdk/long-request.ts";
import type { DetachOptions, LongOptions } from "#sdk/long-request.ts";
import { LostFound } from "#sdk/lost-found.ts";
import { Operations } from "#sdk/operations.ts";
import { Snapshots } from "#sdk/snapshots.ts";
import { Transport, unreachable } from "#sdk/transport.ts";
import { Volumes } from "#sdk/volumes.ts";
import { Templates } from "#sdk/templates.ts";

export type { ApiEvent } from "#api/events.ts";
export type {
  CreateSnapshot,
  CreateVm,
  DaemonStatus,
  Doctor,
  DoctorCheck,
  Exec,
  Firecracker,
  ForkVm,
  Image,
  Installation,
  Kernel,
  LostEntry,
  Operation,
  RecoverVm,
  SetVm,
  Snapshot,
  Vm,
  VmStats,
} from "#api/wire.ts";
export { HearthError } from "#base/error.ts";
export type { ErrorCode } from "#base/error.ts";
export type { Progress } from "#base/progress.ts";
export { GuestProcess } from "#sdk/guest-process.ts";
export type { GuestExit } from "#sdk/guest-process.ts";
export { HearthVm } from "#sdk/hearth-vm.ts";
export type { ExecOptions, ExecResult, SpawnOptions, StartOptions } from "#sdk/hearth-vm.ts";
export type { DetachOptions, LongOptions } from "#sdk/long-request.ts";
export type { ImportOptions } from "#sdk/snapshots.ts";

export type ConnectOptions = {
  /**
   * The user's home directory. Hearth's directories lie below it, unless HEARTH_HOME or the XDG variables say
   * otherwise.
   */
  readonly home?: string | undefined;
  /** hearthd's socket. By default it is found through the directories. */
  readonly socketPath?: string | undefined;
  /** Starts hearthd if it does not run. Default: true. */
  readonly autostart?: boolean | undefined;
  /** The environment in which HEARTH_HOME and the XDG variables are read. Default: `process.env`. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
  readonly signal?: AbortSignal | undefined;
};

export type DoctorOptions = {
  /** Repeats the checks whose result hearthd has cached, such as whether KVM works. */
  readonly fresh?: boolean | undefined;
  /** Fails the checks that are only warnings otherwise, such as missing isolation between guests of different users. */
  readonly production?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
};

/** A VM to create, and the command to run in it. */
export type RunRequest = { readonly vm: CreateVm; readonly exec: Exec };

/** A connection to the hearthd of one user. It keeps no socket open between requests. */
export class Hearth {
  /** The directories in which Hearth keeps its files on this machine. */
  readonly dirs: Dirs;
  readonly vms: Vms;
  readonly images: Images;
  readonly kernels: Kernels;
  readonly volumes: Volumes;
  readonly snapshots: Snapshots;
  readonly templates: Templates;
  readonly firecracker: Firecrackers;
  readonly lostFound: LostFound;
  readonly operations: Operations;
  readonly daemon: Daemon;
  readonly #transport: Transport;

  private constructor(transport: Transport, dirs: Dirs) {
    this.#transport = transport;
    this.dirs = dirs;
    this.vms = new Vms(transport);
    this.images = new Images(transport);
    this.kernels = new Kernels(transport);
    this.volumes = new Volumes(transport);
    this.snapshots = new Snapshots(transport);
    this.templates = new Templates(transport);
    this.firecracker = new Firecrackers(transport);
    this.lostFound = new LostFound(transport);
    this.operations = new Operations(transport);
    this.daemon = new Daemon(transport);
  }

  /**
   * Connects to hearthd, and starts it first unless `autostart` is false or `socketPath` is given.
   * @throws HearthError `daemon.unreachable`, `daemon.start_failed`, `host.path_too_long`, or hearthd's own error if it
   * could not start.
   */
  static async connect(options: ConnectOptions = {}): Promise<Hearth> {
    const env = options.env ?? process.env;
    const home = options.home ?? env["HOME"] ?? process.getBuiltinModule("node:os").homedir();
    const dirs = hearthDirs(env, home);
    const socketPath = options.socketPath ?? apiSocketPath(dirs);
    assertSocketPath(socketPath);
    const transport = new Transport(socketPath);
    if (!(await transport.answers())) {
      if (options.autostart === false || options.socketPath !== undefined) {
        throw unreachable(socketPath, Object.assign(new Error("no answer"), { code: "ENOENT" }));
      }
      const { startDaemon } = await import("#sdk/start-daemon.ts");
      await startDaemon({ dirs, env }, options.signal);
    }
    return new Hearth(transport, dirs);
  }

  /** @deprecated The older name of `templates`. */
  get warm(): Templates {
    return this.templates;
  }

  /** Returns the handle of a VM, by name or id. No request is sent. */
  vm(name: string): HearthVm {
    return new HearthVm(this.#transport, name);
  }

  /**
   * Creates a VM, boots it and starts a command in it. With `vm.autoRemove`, the VM is removed when the command ends.
   *
   * @example
   * const request = { vm: { image: "debian", autoRemove: true }, exec: { argv: ["make", "test"] } };
   * await using command = await hearth.run(request);
   * command.stdout.pipe(process.stdout);
   * command.stderr.pipe(process.stderr);
   * const { exitCode } = await command.exited;
   */
  run(request: RunRequest, options: GuestProcessOptions & LongOptions = {}): Promise<GuestProcess> {
    const { signal, ...more } = options;
    return GuestProcess.open(this.#transport, "/v1/run", request, more, signal);
  }

  /** Checks what this host can do, and returns a fix for each check that failed. */
  doctor(options: DoctorOptions = {}): Promise<Doctor> {
    const query = { fresh: options.fresh || undefined, production: options.production || undefined };
    return this.#transport.json("GET", "/v1/doctor", { query }, options.signal);
  }

  /**
   * Streams the events of all VMs until hearthd ends or `signal` aborts.
   *
   * @example
   * for await (const event of hearth.events()) console.log(event.type);
   */
  async *events(signal?: AbortSignal): AsyncGenerator<ApiEvent, void, undefined> {
    const { readEvents } = await import("#sdk/events.ts");
    const response = await this.#transport.open("GET", "/v1/events", {}, signal);
    try {
      yield* readEvents(response, signal);
    } finally {
      response.destroy();
    }
  }

  /** The version of the hearthd that answered last; undefined before the first answer. */
  get daemonVersion(): string | undefined {
    return this.#transport.daemonVersion;
  }
}

class Vms {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /**
   * Lists the VMs, newest first. The filters are those of `hearth ls --filter`: `label=KEY`, `label=KEY=VALUE`,
   * `state=PHASE` and `name=PART`.
   */
  list(signal?: AbortSignal, filter: readonly string[] = []): Promise<readonly Vm[]> {
    return this.#transport.json("GET", "/v1/vms", { query: { filter } }, signal);
  }

  /**
   * Creates a VM from an image or a snapshot, without starting it. A missing image is built first. A VM from a snapshot
   * starts from the snapshot's memory, or boots from its disk if `cold` is set.
   */
  async create(spec: CreateVm, options: LongOptions = {}): Promise<HearthVm> {
    const vm = await withProgress<Vm>(this.#transport, "POST", "/v1/vms", { body: spec }, options);
    return new HearthVm(this.#transport, vm.name);
  }

  /** Returns the handle of a VM that exists. @throws HearthError `vm.not_found`. */
  async get(name: string, signal?: AbortSignal): Promise<HearthVm> {
    const vm = new HearthVm(this.#transport, name);
    await vm.show(signal);
    return vm;
  }
}

class Images {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  list(signal?: AbortSignal): Promise<readonly Image[]> {
    return this.#transport.json("GET", "/v1/images", {}, signal);
  }

  /** Builds an image, which takes most of a minute, or returns it if it is built already. `fresh` builds it again. */
  build(ref: string, options?: LongOptions & { readonly fresh?: boolean | undefined }): Promise<Image>;
  build(ref: string, options: DetachOptions & { readonly fresh?: boolean | undefined }): Promise<Operation>;
  build(
    ref: string,
    options: (LongOptions | DetachOptions) & { readonly fresh?: boolean | undefined } = {},
  ): Promise<Image | Operation> {
    const body = { ref, fresh: options.fresh };
    if ("detach" in options)
      return this.#transport.json<Operation>("POST", "/v1/images", { body, detach: true }, options.signal);
    return withProgress<Image>(this.#transport, "POST", "/v1/images", { body }, options);
  }

  /** Returns an image. @param ref a name such as `debian:bookworm`, or a digest. */
  show(ref: string, signal?: AbortSignal): Promise<Image> {
    return this.#transport.json("GET", `/v1/images/${encodeURIComponent(ref)}`, {}, signal);
  }

  /** Deletes an image. @throws HearthError `image.in_use` while a VM uses it. */
  remove(ref: string, signal?: AbortSignal): Promise<void> {
    return this.#transport.json("DELETE", `/v1/images/${encodeURIComponent(ref)}`, {}, signal);
  }
}

class Kernels {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  list(signal?: AbortSignal): Promise<readonly Kernel[]> {
    return this.#transport.json("GET", "/v1/kernels", {}, signal);
  }
}

class Daemon {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  status(signal?: AbortSignal): Promise<DaemonStatus> {
    return this.#transport.json("GET", "/v1/daemon", {}, signal);
  }

  /** Stops hearthd. VMs keep running, and the next hearthd adopts them. */
  stop(signal?: AbortSignal): Promise<void> {
    return this.#transport.json("POST", "/v1/daemon/stop", {}, signal);
  }
}

/** Throws for a path that Node would cut without an error, and so connect to another socket. */
function assertSocketPath(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes <= LIMITS.socketPathMaxBytes) return;
  throw new HearthError(
    "host.path_too_long",
    `The socket path of hearthd has ${bytes} bytes; the limit of Linux is ${LIMITS.socketPathMaxBytes}: ${path}`,
    { hint: "Set HEARTH_HOME to a shorter path." },
  );
}
