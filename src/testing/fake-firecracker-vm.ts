/** A Firecracker whose VM runs, as far as its API tells: disks, a balloon in a guest, and metrics in a pipe. */
import { closeSync, mkdirSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import type { ServerResponse } from "node:http";
import { dirname, join } from "node:path";
import type { FirecrackerFiles } from "#drivers/firecracker/boot-config.ts";
import { firecrackerFiles } from "#drivers/firecracker/boot-config.ts";
import { makeFifos, openFifoForProgram } from "#host/fifo.ts";
import { findProcess } from "#host/procfs.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import { accept, answerJson, FakeFirecracker, versionAnswer } from "#testing/fake-firecracker.ts";
import type { AskedRequest } from "#testing/fake-firecracker.ts";

const PAGES_PER_MIB = 256;

/** As Firecracker has them open. */
type Pipes = { readonly console: number; readonly log: number; readonly metrics: number };

export class FakeFirecrackerVm implements AsyncDisposable {
  readonly api: FakeFirecracker;
  readonly files: FirecrackerFiles;
  readonly handle: VmHandle;
  version = "1.17.0";
  memSizeMib = 512;
  /** As its API has it. A snapshot is made of one that is paused, and loaded into one that was not started. */
  phase: "Not started" | "Running" | "Paused" = "Running";
  driveIds: readonly string[] = ["disk0", "disk1", "disk2"];
  /**
   * Answers and saves that differ from those of a Firecracker that does as it is told; by drive, and of the vsock.
   */
  lies: { readonly drive?: object; readonly vsock?: object; readonly more?: object } = {};
  /** While it writes a snapshot it answers nobody, until this resolves. */
  writing: Promise<void> | undefined;
  /** Whether the guest has a driver for the balloon; undefined: from the second request on. */
  hasBalloonDriver: boolean | undefined = true;
  /** As this version says that it has none. */
  noDriverText = "Device is inactive, check if balloon driver is enabled in guest kernel.";
  /** The memory that the guest gives or takes each time that it is asked for, and the most that it gives. */
  stepMib = 32;
  spareMib = 1_024;
  /** The line that a FlushMetrics writes; undefined writes nothing. */
  metricsLine: (() => string) | undefined = () => '{"vcpu": {"exit_io_in": 1}}';
  readonly #pipes: Pipes;
  #busy: Promise<void> | undefined;
  #targetMib = 0;
  #actualMib = 0;

  private constructor(api: FakeFirecracker, pipes: Pipes, stateDir: string) {
    this.api = api;
    this.files = firecrackerFiles(dirname(api.socketPath));
    this.#pipes = pipes;
    const process = findProcess(globalThis.process.pid);
    if (process === undefined) throw new Error("This very process runs.");
    this.handle = {
      driver: "firecracker",
      accel: "kvm",
      processes: [process],
      stateDir,
      disks: ["base", "own", "vol-a"],
      saveDir: join(stateDir, "save"),
      agentSocket: this.files.vsock,
      monitorSocket: this.files.api,
      consoleSocket: this.files.console,
    };
    api.answer = (request, response) => void this.#serve(request, response);
  }

  static async start(): Promise<FakeFirecrackerVm> {
    const api = await FakeFirecracker.start();
    const runDir = dirname(api.socketPath);
    const { console, log, metrics } = firecrackerFiles(runDir);
    await makeFifos([console, log, metrics], AbortSignal.timeout(60_000));
    const stateDir = join(runDir, "state");
    mkdirSync(join(stateDir, "save"), { recursive: true });
    const pipes = {
      console: openFifoForProgram(console),
      log: openFifoForProgram(log),
      metrics: openFifoForProgram(metrics),
    };
    return new FakeFirecrackerVm(api, pipes, stateDir);
  }

  /** Requests but for those that only ask: "PATCH /balloon", with the body. */
  get changes(): { readonly request: string; readonly body: unknown }[] {
    return this.api.asked
      .filter(({ method }) => method !== "GET")
      .map(({ method, path, text }) => ({ request: `${method} ${path}`, body: JSON.parse(text) }));
  }

  /** A line of Firecracker's own log. */
  log(line: string): void {
    writeSync(this.#pipes.log, `${line}\n`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const pipe of Object.values(this.#pipes)) closeSync(pipe);
    await this.api[Symbol.asyncDispose]();
  }

  /** It has one thread, which writes, too. */
  async #serve(request: AskedRequest, response: ServerResponse): Promise<void> {
    if (request.path === "/snapshot/create") this.#busy ??= this.writing;
    await this.#busy;
    this.#answer(request, response);
  }

  #config(): object {
    const drives = this.driveIds.map((id) => {
      const is_read_only = id === "disk0" || id.startsWith("shared");
      const cache_type = is_read_only ? "Unsafe" : "Writeback";
      const drive = {
        drive_id: id,
        is_root_device: false,
        is_read_only,
        cache_type,
        path_on_host: `vm/${id}`,
      };
      return { ...drive, ...this.lies.drive };
    });
    const vsock = { guest_cid: 3, uds_path: "vm/vsock.sock", ...this.lies.vsock };
    return { drives, vsock, "machine-config": this.#machine(), ...this.lies.more };
  }

  #answer(request: AskedRequest, response: ServerResponse): void {
    const { method, path, text } = request;
    if (path === "/version") return answerJson(response, 200, versionAnswer(this.version));
    if (path === "/vm/config") return answerJson(response, 200, this.#config());
    if (method === "GET" && path === "/") return answerJson(response, 200, this.#instance());
    const refused = this.#movePhase(method === "GET" ? "" : path, text);
    if (refused !== undefined) return answerJson(response, 400, { fault_message: refused });
    if (path === "/machine-config") return answerJson(response, 200, this.#machine());
    if (path === "/balloon/statistics") return answerJson(response, 200, this.#statistics());
    if (method === "PATCH" && path === "/balloon" && !this.#takes(JSON.parse(text)))
      return answerJson(response, 400, { fault_message: this.noDriverText });
    if (text === '{"action_type":"FlushMetrics"}' && this.metricsLine !== undefined)
      writeSync(this.#pipes.metrics, `${this.metricsLine()}\n`);
    return accept(request, response);
  }

  #machine(): object {
    return { vcpu_count: 1, mem_size_mib: this.memSizeMib };
  }

  #instance(): object {
    return { app_name: "Firecracker", id: "fake", state: this.phase, vmm_version: this.version };
  }

  /** Applies a request to the VM as a whole; returns why not, in Firecracker 1.12's words. */
  #movePhase(path: string, text: string): string | undefined {
    switch (path) {
      case "/vm":
        this.phase = text === '{"state":"Paused"}' ? "Paused" : "Running";
        return undefined;
      case "/snapshot/create":
        return this.#create(JSON.parse(text));
      case "/snapshot/load":
        return this.#load(JSON.parse(text));
      default:
        return undefined;
    }
  }

  #create(asked: Readonly<Record<string, string>>): string | undefined {
    const { mem_file_path = "", snapshot_path = "", snapshot_type } = asked;
    if (this.phase !== "Paused")
      return "Create snapshot error: Cannot save the microVM state: Operation not allowed: save/restore unavailable while running";
    const { driveIds, memSizeMib } = this;
    try {
      // Into the file that is there, as it does where the file has the memory's size.
      const changes = snapshot_type === "Diff" ? `${readFileSync(mem_file_path, "utf8")}, changed` : "memory";
      writeFileSync(mem_file_path, changes);
      writeFileSync(snapshot_path, JSON.stringify({ driveIds, memSizeMib }));
    } catch (error) {
      return `Create snapshot error: ${(error as Error).message}`;
    }
    return undefined;
  }

  #load({
    snapshot_path = "",
    resume_vm,
  }: {
    snapshot_path?: string;
    resume_vm?: boolean;
  }): string | undefined {
    if (this.phase !== "Not started")
      return "The requested operation is not supported after starting the microVM.";
    try {
      const state = JSON.parse(readFileSync(snapshot_path, "utf8")) as {
        driveIds: string[];
        memSizeMib: number;
      };
      this.driveIds = state.driveIds.toReversed(); // Firecracker remembers them in no order.
      this.memSizeMib = state.memSizeMib;
    } catch {
      return "Load snapshot error: Failed to restore from snapshot: Failed to get snapshot state from file: Failed to load snapshot state from file: CRC64 validation failed: 1";
    }
    this.phase = resume_vm === true ? "Running" : "Paused";
    return undefined;
  }

  #takes({ amount_mib }: { readonly amount_mib: number }): boolean {
    const takes = this.hasBalloonDriver ?? false;
    this.hasBalloonDriver ??= true;
    if (takes) this.#targetMib = amount_mib;
    return takes;
  }

  #statistics(): object {
    const wantedMib = Math.min(this.#targetMib, this.spareMib);
    const wayMib = wantedMib - this.#actualMib;
    this.#actualMib += Math.sign(wayMib) * Math.min(this.stepMib, Math.abs(wayMib));
    return {
      target_pages: this.#targetMib * PAGES_PER_MIB,
      actual_pages: this.#actualMib * PAGES_PER_MIB,
      target_mib: this.#targetMib,
      actual_mib: this.#actualMib,
    };
  }
}
