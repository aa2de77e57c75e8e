import type { Readable } from "node:stream";
import type { AttachVolume, Exec, ForkVm, Operation, SetVm, Vm, VmStats } from "#api/wire.ts";
import { HearthError } from "#base/error.ts";
import type { CopyInOptions } from "#sdk/copy-in.ts";
import type { CopyOutOptions } from "#sdk/copy-out.ts";
import { GuestProcess } from "#sdk/guest-process.ts";
import type { GuestExit } from "#sdk/guest-process.ts";
import { withProgress } from "#sdk/long-request.ts";
import type { DetachOptions, LongOptions } from "#sdk/long-request.ts";
import type { Query, Transport } from "#sdk/transport.ts";

export type SpawnOptions = Omit<Exec, "argv"> & { readonly signal?: AbortSignal | undefined };

export type ExecOptions = Omit<SpawnOptions, "stdin" | "detach" | "tty"> & {
  /** What the command reads on stdin; otherwise its stdin is empty. */
  readonly input?: string | Uint8Array | undefined;
  /** Of stdout, and of stderr, each; 16 MiB unless told. More is an error, and ends the command. */
  readonly maxOutputBytes?: number | undefined;
};

export type StartOptions = { readonly fresh?: boolean | undefined };

export type ExecResult = GuestExit & { readonly stdout: string; readonly stderr: string };

const OUTPUT_MAX_BYTES = 16 * 1024 * 1024;

/**
 * One VM, by name or id. Making the object asks nothing: a VM that does not exist comes up at the first call.
 *
 * @example
 * const vm = hearth.vm("web");
 * await vm.start();
 * const { stdout } = await vm.exec(["uname", "-r"]);
 */
export class HearthVm {
  /** As it was given: the VM's name, or its id. */
  readonly name: string;
  readonly #transport: Transport;
  readonly #path: string;

  constructor(transport: Transport, name: string) {
    this.name = name;
    this.#transport = transport;
    this.#path = `/v1/vms/${encodeURIComponent(name)}`;
  }

  /** Everything about the VM. @throws HearthError `vm.not_found`. */
  show(signal?: AbortSignal): Promise<Vm> {
    return this.#transport.json("GET", this.#path, {}, signal);
  }

  /**
   * Boots the VM, or lets it go on where it was saved; resolves when a command can run in it. With `fresh` it starts
   * as if it had never run: what was written to its disk is gone. A client that leaves before that cancels the start,
   * unless it is detached.
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

  /** Flushes and powers off the guest; after `timeoutMs` the VMM is ended. */
  stop(options: LongOptions & { readonly timeoutMs?: number | undefined } = {}): Promise<Vm> {
    const body = { timeoutMs: options.timeoutMs };
    return withProgress(this.#transport, "POST", `${this.#path}/stop`, { body }, options);
  }

  /** Stops the VM, if it runs, and boots it. */
  restart(options: LongOptions & { readonly timeoutMs?: number | undefined } = {}): Promise<Vm> {
    const body = { timeoutMs: options.timeoutMs };
    return withProgress(this.#transport, "POST", `${this.#path}/restart`, { body }, options);
  }

  /** Ends the VMM without asking the guest: what it had not flushed is lost. */
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

  /** Halts the virtual CPUs. Memory stays as it is. */
  pause(signal?: AbortSignal): Promise<Vm> {
    return this.#transport.json("POST", `${this.#path}/pause`, {}, signal);
  }

  /** Lets a VM go on that is paused or suspended. A suspended one also wakes when a command is to run in it. */
  resume(options: LongOptions = {}): Promise<Vm> {
    return withProgress(this.#transport, "POST", `${this.#path}/resume`, {}, options);
  }

  /** Saves the memory to the disk and ends the VMM, until the VM is resumed. @throws HearthError `feature.missing`. */
  suspend(options: LongOptions = {}): Promise<Vm> {
    return withProgress(this.#transport, "POST", `${this.#path}/suspend`, {}, options);
  }

  /**
   * Makes running copies of a VM that runs, each with its own identity: all of `count`, or none. They are called
   * `name`-1, `name`-2, …, after this VM unless told; a single one has just the `name`.
   *
   * @example
   * const workers = await vm.fork({ count: 4, name: "worker", autoRemove: true });
   */
  async fork(how: ForkVm = {}, options: LongOptions = {}): Promise<HearthVm[]> {
    const path = `${this.#path}/fork`;
    const forks = await withProgress<readonly Vm[]>(this.#transport, "POST", path, { body: how }, options);
    return forks.map(({ name }) => new HearthVm(this.#transport, name));
  }

  /**
   * Changes a VM. Limits and memory also while it runs: memory down, and up to what it was started with. A disk only
   * grows; null takes a limit away.
   */
  set(change: SetVm, signal?: AbortSignal): Promise<Vm> {
    return this.#transport.json("PATCH", this.#path, { body: change }, signal);
  }

  /** Gives the VM one volume more, from its next start on. @throws HearthError `feature.missing` while it runs. */
  attachVolume(mount: AttachVolume, signal?: AbortSignal): Promise<Vm> {
    return this.#transport.json("POST", `${this.#path}/volumes`, { body: mount }, signal);
  }

  /** Takes a volume from the VM, from its next start on; its data stays. */
  detachVolume(name: string, signal?: AbortSignal): Promise<Vm> {
    return this.#transport.json("DELETE", `${this.#path}/volumes/${encodeURIComponent(name)}`, {}, signal);
  }

  /** Removes the VM with its disk; with `force` also one that runs. */
  remove(options: { readonly force?: boolean | undefined } = {}, signal?: AbortSignal): Promise<void> {
    const query = { force: options.force === true ? true : undefined };
    return this.#transport.json("DELETE", this.#path, { query }, signal);
  }

  /** What the VM uses of the host now. */
  stats(signal?: AbortSignal): Promise<VmStats> {
    return this.#transport.json("GET", `${this.#path}/stats`, {}, signal);
  }

  /**
   * The guest's console, or the VMM's own log, as text. The bytes come from the guest: whoever prints them on a
   * terminal cleans them first.
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
   * Starts a command; `argv` arrives as it is, in UTF-8, and no shell reads it. With `stdin: true` the command's stdin is
   * open. An empty `argv` is the image's own command, or a login shell when there is a terminal.
   * @throws HearthError `exec.not_found`, `exec.not_executable`, `exec.bad_user`, `vm.wrong_phase`.
   */
  spawn(argv: readonly string[], options: SpawnOptions = {}): Promise<GuestProcess> {
    const { signal, ...exec } = options;
    return GuestProcess.open(this.#transport, `${this.#path}/exec`, { argv: [...argv], ...exec }, {}, signal);
  }

  /**
   * Runs a command to its end. A command that fails is no error here: look at `exitCode`.
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

  /** A file or directory of the guest as a tar stream. @throws HearthError `file.not_found`. */
  readTar(path: string, signal?: AbortSignal): Promise<Readable> {
    return this.#stream("files", { path }, signal);
  }

  /** An answer that is cut off ends in an error, so that nobody takes a part for the whole. */
  async #stream(what: string, query: Query, signal: AbortSignal | undefined): Promise<Readable> {
    const { answerStream } = await import("#sdk/answer-stream.ts");
    return answerStream(
      await this.#transport.open("GET", `${this.#path}/${what}`, { query }, signal),
      signal,
    );
  }

  /** Unpacks a tar stream into the directory `path` of the guest; with `parents`, makes the directory first. */
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
