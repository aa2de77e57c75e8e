/**
 * The session of one Firecracker: its API, which does not answer while it saves, and its log and exit code, which tell
 * how the guest ended.
 */
import { dirname } from "node:path";
import { VM_NAMES } from "#base/file-names.ts";
import { unlessAborted } from "#base/deadline.ts";
import { GIB } from "#base/sizes.ts";
import { FirecrackerClient } from "#drivers/firecracker/api/firecracker-client.ts";
import type { ApiSocket } from "#drivers/firecracker/api/exchange.ts";
import type { FirecrackerVersion } from "#drivers/firecracker/api/firecracker-version.ts";
import { waitUntilReady } from "#drivers/firecracker/api/wait-until-ready.ts";
import { firecrackerFiles } from "#drivers/firecracker/boot-config.ts";
import type { FirecrackerFiles } from "#drivers/firecracker/boot-config.ts";
import { MemoryBase } from "#drivers/firecracker/memory-base.ts";
import { FirecrackerRecorder } from "#drivers/firecracker/recorder.ts";
import { removeRunFiles } from "#drivers/firecracker/run-dir.ts";
import type { ChildExit } from "#jail/vmm-launch.ts";
import { saveDeadlineMs } from "#drivers/save-bounds.ts";
import type { VmmStatus } from "#drivers/vm-driver.ts";
import { EXIT_AFTER_CLOSE_MS, vmGone, VmmSession } from "#drivers/vmm-session.ts";
import type { GuestEnd, VmmSessionOptions, VmmTiming } from "#drivers/vmm-session.ts";
import { readTail } from "#host/bounded-file.ts";
import { waitForEnd } from "#host/process-end.ts";
import { isAlive } from "#host/procfs.ts";
import { isListening } from "#host/unix-socket.ts";
import type { VmHandle } from "#model/vm-handle.ts";

/** Firecracker's states of an instance; one that is not started has no vCPUs. */
const STATUS: Readonly<Record<string, VmmStatus | undefined>> = { Running: "running", Paused: "paused" };

export type FirecrackerTiming = VmmTiming & {
  /** The deadline of writing or loading a snapshot; undefined: by the size of the memory. */
  readonly saveDeadlineMs?: number | undefined;
};

/** The assumed memory of a VM that an older hearthd has started, which did not store its memory. */
const MEMORY_MAX_BYTES = 64 * GIB;
const LOG_TAIL_BYTES = 4 * 1024;
/** The last line of the log, except for the metrics' lines; the guest has reset itself, or shut down. */
const ENDED_WELL = /Firecracker exiting successfully\. exit_code=0/;

/** Asks Firecracker by `request`, and by `occupy` for a save, which makes it answer nothing else. */
export class FirecrackerSession extends VmmSession<FirecrackerRecorder, FirecrackerTiming> {
  readonly files: FirecrackerFiles;
  /** The background work of a failed save, see `saveVm`. */
  readonly late: { until: Promise<unknown> } = { until: Promise.resolve() };
  #client: Promise<FirecrackerClient> | undefined;
  #occupied = 0;

  constructor(handle: VmHandle, options: VmmSessionOptions<FirecrackerTiming>) {
    super(handle, options);
    this.files = firecrackerFiles(dirname(handle.monitorSocket));
  }

  /**
   * Runs `work` with the API's client.
   * @throws HearthError `vm.gone` when the process has ended, or ends meanwhile; and what `work` throws
   */
  async request<Answer>(
    work: (client: FirecrackerClient) => Promise<Answer>,
    signal: AbortSignal,
  ): Promise<Answer> {
    if (!isAlive(this.process)) throw vmGone();
    try {
      return await work(await unlessAborted(this.#getClient(), signal));
    } catch (error) {
      signal.throwIfAborted();
      if (await this.#hasGone(signal)) throw vmGone();
      throw error;
    }
  }

  /**
   * Runs `work` like `request`, while Firecracker answers no one else; heartbeats are not counted as missed meanwhile.
   */
  async occupy<Answer>(
    work: (client: FirecrackerClient) => Promise<Answer>,
    signal: AbortSignal,
  ): Promise<Answer> {
    this.#occupied += 1;
    try {
      return await this.request(work, signal);
    } finally {
      this.#occupied -= 1;
    }
  }

  /**
   * Tells whether the process has ended or is ending: a Firecracker that ends stops listening first, and the process
   * ends when it has freed the guest's memory.
   */
  async #hasGone(signal: AbortSignal): Promise<boolean> {
    if (isAlive(this.process) && (await isListening(this.files.api))) return false;
    return waitForEnd(this.process, EXIT_AFTER_CLOSE_MS, signal);
  }

  get #socket(): ApiSocket {
    return { socketPath: this.files.api, socketOwner: this.socketOwner };
  }

  #getClient(): Promise<FirecrackerClient> {
    this.#client ??= this.#connect(this.options.timing.answerDeadlineMs);
    return this.#client;
  }

  async #connect(deadlineMs: number): Promise<FirecrackerClient> {
    // Not a caller's signal: others wait for the same answer, which has its own deadline.
    const { signal } = new AbortController();
    try {
      const hasEnded = new Promise<Error>(() => {}); // Checked below: an adopted process reports no end.
      const version = await waitUntilReady({ ...this.#socket, deadlineMs, hasEnded }, signal);
      return this.#newClient(version);
    } catch (error) {
      this.#client = undefined;
      if (!isAlive(this.process)) throw vmGone();
      throw error;
    }
  }

  /** Opens the client of a Firecracker that was started just now. */
  async firstClient(hasEnded: Promise<Error>, signal: AbortSignal): Promise<FirecrackerClient> {
    const { startDeadlineMs: deadlineMs } = this.options.timing;
    const client = this.#newClient(await waitUntilReady({ ...this.#socket, deadlineMs, hasEnded }, signal));
    this.#client = Promise.resolve(client);
    return client;
  }

  #newClient(version: FirecrackerVersion): FirecrackerClient {
    const { memoryBytes = MEMORY_MAX_BYTES } = this.handle;
    const snapshotDeadlineMs = this.options.timing.saveDeadlineMs ?? saveDeadlineMs(memoryBytes);
    return new FirecrackerClient({ ...this.#socket, version, snapshotDeadlineMs });
  }

  protected override async ask(signal: AbortSignal): Promise<VmmStatus | undefined> {
    if (this.#occupied > 0) return undefined;
    try {
      const { state } = await (await unlessAborted(this.#getClient(), signal)).describeInstance(signal);
      return this.#occupied > 0 ? undefined : STATUS[state];
    } catch (error) {
      if (this.#occupied > 0 && isAlive(this.process)) return undefined; // A save has begun meanwhile.
      throw error;
    }
  }

  protected override openRecorder(resumed: boolean): Promise<FirecrackerRecorder> {
    const { files, handle, options } = this;
    const { logMaxBytes, onTrouble } = options;
    const { stateDir } = handle;
    return Promise.try(() => new FirecrackerRecorder({ files, stateDir, logMaxBytes, resumed, onTrouble }));
  }

  /**
   * Reads the end from the exit code, or from the log. The guest has no power switch: it resets the machine both to
   * power off and to reboot.
   */
  protected override readEnd(exit: ChildExit | undefined): GuestEnd {
    if (exit?.signal != null) return undefined;
    const code = exit?.code ?? undefined;
    const endedWell =
      code === undefined
        ? ENDED_WELL.test(readTail(this.logPath(VM_NAMES.vmmLog), LOG_TAIL_BYTES))
        : code === 0;
    return endedWell ? "off or reset" : undefined;
  }

  protected override async removeFiles(): Promise<void> {
    removeRunFiles(dirname(this.files.api));
    await new MemoryBase(this.handle.stateDir).remove();
  }

  /** Does nothing: each request has its own connection. */
  protected override disconnect(): void {}
}
