import type { Duplex, Readable } from "node:stream";
import type {
  AttachVolume,
  Exec,
  ForkVm,
  NetworkTest,
  Operation,
  SetVm,
  TestNetwork,
  Vm,
  VmNetworkView,
  VmPorts,
  VmStats,
} from "#api/wire.ts";
import { HearthError } from "#base/error.ts";
import type { CopyInOptions } from "#sdk/copy-in.ts";
import type { CopyOutOptions } from "#sdk/copy-out.ts";
import { GuestConnection } from "#sdk/guest-connection.ts";
import { GuestProcess } from "#sdk/guest-process.ts";
import type { GuestExit, GuestProcessOptions } from "#sdk/guest-process.ts";
import { withProgress } from "#sdk/long-request.ts";
import type { DetachOptions, LongOptions } from "#sdk/long-request.ts";
import type { Query, Transport } from "#sdk/transport.ts";

export type SpawnOptions = Omit<Exec, "argv"> &
  Pick<GuestProcessOptions, "onSent"> & { readonly signal?: AbortSignal | undefined };

export type ExecOptions = Omit<SpawnOptions, "stdin" | "detach" | "tty"> & {
  /** The command's stdin. By default it is empty. */
  readonly input?: string | Uint8Array | undefined;
  /**
   * The most bytes that stdout and stderr may have, each; default 16 MiB. Exceeding it kills the command and throws.
   */
  readonly maxOutputBytes?: number | undefined;
};

export type StartOptions = { readonly fresh?: boolean | undefined };

export type ExecResult = GuestExit & { readonly stdout: string; readonly stderr: string };

const OUTPUT_MAX_BYTES = 16 * 1024 * 1024;

/**
 * A handle of one VM. Creating it sends no request, so a VM that does not exist is an error of the first call.
 *
 * @example
 * const vm = hearth.vm("web");
 * await vm.start();
 * const { stdout } = await vm.exec(["uname", "-r"]);
 */
export class HearthVm {
  /** The name or id that the handle was created with. */
  readonly name: string;
  readonly #transport: Transport;
  readonly #path: string;

  constructor(transport: Transport, name: string) {
    this.name = name;
    this.#transport = transport;
    this.#path = `/v1/vms/${encodeURIComponent(name)}`;
  }

  /** Returns the VM. @throws HearthError `vm.not_found`. */
  show(signal?: AbortSignal): Promise<Vm> {
    return this.#transport.json("GET", this.#path, {}, signal);
  }

  /**
   * Boots the VM, restores it if it is suspended, and resolves when commands can run in it. `fresh` discards what was
   * written to its disk first. Aborting `signal`, or disconnecting, cancels a start that is not detached.
   */
  start(options?: LongOptions & StartOptions): Promise<Vm>;
  start(options: DetachOptions & StartOptions): Promise<Operation>;
  start(options: (LongOptions | DetachOptions) & StartOptions = {}): Promise<Vm | Operation> {
    const query = { fresh: options.fresh === true ? true : undefined };
    const path = `${this.#path}/start`;
    if ("detach" in options)
      return this.#transport.json<Operation>("POST", path, { query, detach: true }, options.signal);
    return withProgress<Vm>(this.#transport, "POST", path, { query }, options);
  }

  /** Shuts the guest down. After `timeoutMs` milliseconds the VMM is killed. */
  stop(options: LongOptions & { readonly timeoutMs?: number | undefined } = {}): Promise<Vm> {
    const body = { timeoutMs: options.timeoutMs };
    return withProgress(this.#transport, "POST", `${this.#path}/stop`, { body }, options);
  }

  /** Stops the VM if it runs, and boots it. After `timeoutMs` milliseconds of shutting down the VMM is killed. */
  restart(options: LongOptions & { readonly timeoutMs?: number | undefined } = {}): Promise<Vm> {
    const body = { timeoutMs: options.timeoutMs };
    return withProgress(this.#transport, "POST", `${this.#path}/restart`, { body }, options);
  }

  /** Kills the VMM without asking the guest. Data that the guest has not flushed is lost. */
  kill(
    options: { readonly killSignal?: "SIGKILL" | "SIGTERM" | undefined } = {},
    signal?: AbortSignal,
  ): Promise<Vm> {
    return this.#transport.json(
      "POST",
      `${this.#path}/kill`,
      { body: { signal: options.killSignal } },
      signal,
    );
  }

  /** Stops the vCPUs. The memory stays in the VMM. */
  pause(signal?: AbortSignal): Promise<Vm> {
    return this.#transport.json("POST", `${this.#path}/pause`, {}, signal);
  }

  /** Resumes a paused or suspended VM. Running a command resumes a suspended VM, too. */
  resume(options: LongOptions = {}): Promise<Vm> {
    return withProgress(this.#transport, "POST", `${this.#path}/resume`, {}, options);
  }

  /**
   * Saves memory and device state to disk, and ends the VMM until the VM is resumed.
   * @throws HearthError `feature.missing`.
   */
  suspend(options: LongOptions = {}): Promise<Vm> {
    return withProgress(this.#transport, "POST", `${this.#path}/suspend`, {}, options);
  }

  /**
   * Creates running copies of this running VM, each with its own guest identity: all `count` (default 1), or none. They
   * are named `name`-1, `name`-2, …, and a single copy is just `name`; by default the names derive from this VM's.
   *
   * @example
   * const workers = await vm.fork({ count: 4, name: "worker", autoRemove: true });
   */
  async fork(request: ForkVm = {}, options: LongOptions = {}): Promise<HearthVm[]> {
    const path = `${this.#path}/fork`;
    const forks = await withProgress<readonly Vm[]>(
      this.#transport,
      "POST",
      path,
      { body: request },
      options,
    );
    return forks.map(({ name }) => new HearthVm(this.#transport, name));
  }

  /**
   * Changes a VM's settings; null removes a limit. While it runs, limits can be changed, and memory up to the size that
   * it was started with. Disks only grow.
   */
  set(change: SetVm, signal?: AbortSignal): Promise<Vm> {
    return this.#transport.json("PATCH", this.#path, { body: change }, signal);
  }

  /** Mounts a volume in the VM from its next start on. @throws HearthError `feature.missing` while it runs. */
  attachVolume(mount: AttachVolume, signal?: AbortSignal): Promise<Vm> {
    return this.#transport.json("POST", `${this.#path}/volumes`, { body: mount }, signal);
  }

  /** Detaches a volume from the VM, from its next start on. The volume's data stays. */
  detachVolume(name: string, signal?: AbortSignal): Promise<Vm> {
    return this.#transport.json("DELETE", `${this.#path}/volumes/${encodeURIComponent(name)}`, {}, signal);
  }

  /** Deletes the VM with its disk. A VM that runs is an error, unless `force` is set. */
  remove(options: { readonly force?: boolean | undefined } = {}, signal?: AbortSignal): Promise<void> {
    const query = { force: options.force === true ? true : undefined };
    return this.#transport.json("DELETE", this.#path, { query }, signal);
  }

  /** Measures what the VM uses of the host. */
  stats(signal?: AbortSignal): Promise<VmStats> {
    return this.#transport.json("GET", `${this.#path}/stats`, {}, signal);
  }

  /** Returns the VM's network policy, with the packets that each rule decided; `rules` adds the nftables rules. */
  network(
    options: { readonly rules?: boolean | undefined } = {},
    signal?: AbortSignal,
  ): Promise<VmNetworkView> {
    const query = { rules: options.rules === true ? true : undefined };
    return this.#transport.json("GET", `${this.#path}/network`, { query }, signal);
  }

  /**
   * Tells what the network policy decides about a TCP connection, and tries it from inside of the guest.
   * @throws HearthError `input.invalid` without network nat, and for a name that the guest cannot resolve
   */
  testNetwork(target: TestNetwork, signal?: AbortSignal): Promise<NetworkTest> {
    return this.#transport.json("POST", `${this.#path}/network/test`, { body: target }, signal);
  }

  /**
   * Lists the ports on which programs of the guest listen, and the addresses of the host that lead to them. The guest
   * chooses what it lists.
   * @throws HearthError `vm.wrong_phase`, `agent.unreachable`, and `feature.missing` if its agent is too old
   */
  ports(signal?: AbortSignal): Promise<VmPorts> {
    return this.#transport.json("GET", `${this.#path}/ports`, {}, signal);
  }

  /**
   * Connects to a TCP port on the guest's loopback, through its agent: the VM needs no network. Each end may end its
   * side alone. A connection that breaks destroys the stream with its error.
   * @throws HearthError `vm.wrong_phase`, `agent.unreachable`, and when nothing listens there
   */
  async dial(port: number, signal?: AbortSignal): Promise<Duplex> {
    return new GuestConnection(
      await GuestProcess.open(this.#transport, `${this.#path}/dial`, { port }, {}, signal),
    );
  }

  /**
   * Streams the guest's console, or the VMM's log, as text. The guest chooses the bytes: callers must escape control
   * characters before they print them on a terminal.
   */
  logs(
    options: {
      readonly source?: "console" | "vmm" | undefined;
      readonly follow?: boolean | undefined;
      readonly lines?: number | undefined;
    } = {},
    signal?: AbortSignal,
  ): Promise<Readable> {
    const query = {
      source: options.source,
      follow: options.follow === true ? true : undefined,
      lines: options.lines === undefined ? undefined : String(options.lines),
    };
    return this.#stream("logs", query, signal);
  }

  /**
   * Starts a command. `argv` is passed on as UTF-8 without a shell; an empty `argv` runs the image's default command,
   * or a login shell if `tty` is set. stdin is closed unless `stdin` is true.
   * @throws HearthError `exec.not_found`, `exec.not_executable`, `exec.bad_user`, `vm.wrong_phase`.
   */
  spawn(argv: readonly string[], options: SpawnOptions = {}): Promise<GuestProcess> {
    const { signal, onSent, ...exec } = options;
    const request = { argv: [...argv], ...exec };
    return GuestProcess.open(this.#transport, `${this.#path}/exec`, request, { onSent }, signal);
  }

  /**
   * Runs a command until it ends. A command that fails does not throw: check `exitCode`.
   *
   * @example
   * const { exitCode, stdout } = await vm.exec(["wc", "-c"], { input: "four" });
   */
  async exec(argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    const { input, maxOutputBytes = OUTPUT_MAX_BYTES, ...spawn } = options;
    await using command = await this.spawn(argv, { ...spawn, stdin: input !== undefined });
    if (input !== undefined) command.stdin.on("error", () => undefined).end(input);
    const [stdout, stderr, exit] = await Promise.all([
      textOf(command.stdout, "stdout", maxOutputBytes),
      textOf(command.stderr, "stderr", maxOutputBytes),
      command.exited,
    ]);
    return { ...exit, stdout, stderr };
  }

  /** Reads a file or directory of the guest as a tar stream. @throws HearthError `file.not_found`. */
  readTar(path: string, signal?: AbortSignal): Promise<Readable> {
    return this.#stream("files", { path }, signal);
  }

  /** Opens a stream that ends with an error if the answer is cut off, so that a part is never taken for the whole. */
  async #stream(what: string, query: Query, signal: AbortSignal | undefined): Promise<Readable> {
    const { answerStream } = await import("#sdk/answer-stream.ts");
    return answerStream(
      await this.#transport.open("GET", `${this.#path}/${what}`, { query }, signal),
      signal,
    );
  }

  /** Unpacks a tar stream into the guest's directory `path`; `parents` creates it, and those above it. */
  writeTar(
    path: string,
    tar: Readable,
    options: { readonly parents?: boolean | undefined } = {},
    signal?: AbortSignal,
  ): Promise<{ readonly entries: number; readonly bytes: number }> {
    const query = { path, parents: options.parents === true ? true : undefined };
    const stream = { from: tar, contentType: "application/x-tar" };
    return this.#transport.json("PUT", `${this.#path}/files`, { query, stream }, signal);
  }

  /**
   * Copies files or directories of the host into the guest, by the rules of `docker cp`.
   *
   * @example
   * await vm.copyIn(["./src"], "/root/");
   */
  async copyIn(
    hostPaths: readonly string[],
    guestPath: string,
    options: CopyInOptions = {},
    signal?: AbortSignal,
  ): Promise<void> {
    const { copyIn } = await import("#sdk/copy-in.ts");
    await copyIn(this, hostPaths, guestPath, options, signal);
  }

  /**
   * Copies a file or directory of the guest to the host, by the rules of `docker cp`. The guest is not trusted.
   * @throws HearthError `file.not_found`, `file.refused`.
   */
  async copyOut(
    guestPath: string,
    hostPath: string,
    options: CopyOutOptions = {},
    signal?: AbortSignal,
  ): Promise<void> {
    const { copyOut } = await import("#sdk/copy-out.ts");
    await copyOut(this, guestPath, hostPath, options, signal);
  }
}

async function textOf(stream: Readable, name: string, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    bytes += chunk.byteLength;
    if (bytes > maxBytes) {
      throw new HearthError(
        "input.invalid",
        `${name}: the command wrote more than maxOutputBytes (${maxBytes}).`,
        {
          hint: "Raise maxOutputBytes, or read the output as a stream with spawn().",
        },
      );
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}
