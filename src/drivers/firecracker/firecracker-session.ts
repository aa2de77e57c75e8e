/**
 * What hearthd keeps for one Firecracker that runs, whether it started it or found it again: the recorder of
 * what it writes, a heartbeat over its API, and how it ended.
 */
import { dirname, join } from "node:path";
import { HearthError } from "#base/error.ts";
import { GIB } from "#base/sizes.ts";
import { within } from "#base/deadline.ts";
import { FirecrackerClient } from "#drivers/firecracker/api/firecracker-client.ts";
import type { ApiSocket } from "#drivers/firecracker/api/exchange.ts";
import type { FirecrackerVersion } from "#drivers/firecracker/api/firecracker-version.ts";
import { waitUntilReady } from "#drivers/firecracker/api/wait-until-ready.ts";
import { firecrackerFiles } from "#drivers/firecracker/boot-config.ts";
import type { FirecrackerFiles } from "#drivers/firecracker/boot-config.ts";
import { MemoryBase } from "#drivers/firecracker/memory-base.ts";
import { FirecrackerRecorder } from "#drivers/firecracker/recorder.ts";
import { removeRunFiles } from "#drivers/firecracker/run-folder.ts";
import { Heartbeat } from "#drivers/heartbeat.ts";
import type { ChildExit } from "#drivers/jail/launch-vmm.ts";
import { waitForLauncher } from "#drivers/launcher-end.ts";
import { endsInPanic } from "#drivers/record-stream.ts";
import { EXIT_CODE_DEADLINE_MS } from "#drivers/starting-vmm.ts";
import { saveDeadlineMs } from "#drivers/save-bounds.ts";
import type { VmmStatus, VmmWatcher } from "#drivers/vm-driver.ts";
import { readTail } from "#host/bounded-file.ts";
import { waitForEnd } from "#host/process-end.ts";
import { isAlive } from "#host/procfs.ts";
import { isListening } from "#host/unix-socket.ts";
import type { VmExit, VmHandle } from "#model/vm-handle.ts";

/** What Firecracker says of an instance; one that is not started has no vCPUs. */
const STATUS: Readonly<Record<string, VmmStatus | undefined>> = { Running: "running", Paused: "paused" };

export type FirecrackerTiming = {
  /** Between two heartbeats. */
  readonly heartbeatMs: number;
  /** An answer that takes longer is a missed heartbeat; less than `heartbeatMs`. */
  readonly answerDeadlineMs: number;
  /** From the start of the process until its API answers. */
  readonly startDeadlineMs: number;
  /** For a snapshot to be written or loaded; by the size of the memory if undefined. */
  readonly saveDeadlineMs?: number | undefined;
};

export type SessionOptions = {
  readonly timing: FirecrackerTiming;
  readonly logMaxBytes: number;
  /** When the process is our child: how it ended. */
  readonly childExit?: Promise<ChildExit> | undefined;
  readonly onTrouble: (path: string, error: unknown) => void;
  readonly onEnd: () => void;
};

/** Firecracker closes its console first and then gives the guest's memory back. */
const EXIT_AFTER_CLOSE_MS = 10_000;
/** Of a VM that an older hearthd has started, which did not note its memory. */
const MEMORY_MAX_BYTES = 64 * GIB;
const LOG_TAIL_BYTES = 4 * 1024;
/** The log's last line but for the metrics'; the guest has reset itself, or shut down. */
const ENDED_WELL = /Firecracker exiting successfully\. exit_code=0/;

/** hearthd's side of one Firecracker. */
export class FirecrackerSession {
  readonly handle: VmHandle;
  readonly files: FirecrackerFiles;
  /** Of its saves, see `saveVm`. */
  readonly late: { until: Promise<unknown> } = { until: Promise.resolve() };
  readonly #options: SessionOptions;
  #recorder: FirecrackerRecorder | undefined;
  #client: Promise<FirecrackerClient> | undefined;
  #watcher: VmmWatcher | undefined;
  #heartbeat: Heartbeat | undefined;
  #asked = false;
  #occupied = 0;
  #finishing: Promise<VmExit> | undefined;

  constructor(handle: VmHandle, runDir: string, options: SessionOptions) {
    this.handle = handle;
    this.files = firecrackerFiles(runDir);
    this.#options = options;
  }

  /** Reads what it writes from now on. @throws the system's error when its pipes cannot be opened. */
  record(resumed: boolean): FirecrackerRecorder {
    if (this.#recorder !== undefined) return this.#recorder;
    const { logMaxBytes, onTrouble } = this.#options;
    const { stateDir } = this.handle;
    const recorder = new FirecrackerRecorder({
      files: this.files,
      stateDir,
      logMaxBytes,
      resumed,
      onTrouble,
    });
    this.#recorder = recorder;
    void this.#afterClose(recorder);
    return recorder;
  }

  /** @throws HearthError `vm.gone` when the process has ended, or ends meanwhile; what `work` throws. */
  async ask<Answer>(
    work: (client: FirecrackerClient) => Promise<Answer>,
    signal: AbortSignal,
  ): Promise<Answer> {
    if (!isAlive(this.handle.process)) throw gone();
    try {
      return await work(await this.#getClient());
    } catch (error) {
      signal.throwIfAborted();
      if (await this.#hasGone(signal)) throw gone();
      throw error;
    }
  }

  /** The same for what makes it deaf to everybody else for as long as it takes; no heartbeat counts that. */
  async occupy<Answer>(
    work: (client: FirecrackerClient) => Promise<Answer>,
    signal: AbortSignal,
  ): Promise<Answer> {
    this.#occupied += 1;
    try {
      return await this.ask(work, signal);
    } finally {
      this.#occupied -= 1;
    }
  }

  /** A Firecracker that ends stops listening first, and is gone when it has given the guest's memory back. */
  async #hasGone(signal: AbortSignal): Promise<boolean> {
    if (isAlive(this.handle.process) && (await isListening(this.files.api))) return false;
    return waitForEnd(this.handle.process, EXIT_AFTER_CLOSE_MS, signal);
  }

  get #socket(): ApiSocket {
    return { socketPath: this.files.api, socketOwner: this.handle.isolation?.uid };
  }

  #getClient(): Promise<FirecrackerClient> {
    this.#client ??= this.#connect(this.#options.timing.answerDeadlineMs);
    return this.#client;
  }

  async #connect(deadlineMs: number): Promise<FirecrackerClient> {
    // Not a caller's: others wait for the same answer, which has a deadline of its own.
    const { signal } = new AbortController();
    try {
      const hasEnded = new Promise<Error>(() => {}); // Looked for below: nobody tells us of an adopted process.
      const version = await waitUntilReady({ ...this.#socket, deadlineMs, hasEnded }, signal);
      return this.#newClient(version);
    } catch (error) {
      this.#client = undefined;
      if (!isAlive(this.handle.process)) throw gone();
      throw error;
    }
  }

  /** For a Firecracker that was started just now. */
  async firstClient(hasEnded: Promise<Error>, signal: AbortSignal): Promise<FirecrackerClient> {
    const { startDeadlineMs: deadlineMs } = this.#options.timing;
    const client = this.#newClient(await waitUntilReady({ ...this.#socket, deadlineMs, hasEnded }, signal));
    this.#client = Promise.resolve(client);
    return client;
  }

  #newClient(version: FirecrackerVersion): FirecrackerClient {
    const { memoryBytes = MEMORY_MAX_BYTES } = this.handle;
    const snapshotDeadlineMs = this.#options.timing.saveDeadlineMs ?? saveDeadlineMs(memoryBytes);
    return new FirecrackerClient({ ...this.#socket, version, snapshotDeadlineMs });
  }

  /** Follows the process until it ends or `signal` aborts. */
  watch(watcher: VmmWatcher, signal: AbortSignal): void {
    if (signal.aborted) return;
    this.#watcher = watcher;
    signal.addEventListener("abort", () => this.release(), { once: true });
    this.#heartbeat ??= new Heartbeat({
      everyMs: this.#options.timing.heartbeatMs,
      ask: () => this.#ask(),
      onSilent: (silentMs) => this.#watcher?.silent(silentMs),
    });
  }

  /** Whatever ends the process from now on was asked for. */
  askedToEnd(): void {
    this.#asked = true;
  }

  /** Tells the watcher that the process has ended, and lets go of everything. Never rejects. Idempotent. */
  finish(): Promise<VmExit> {
    this.#finishing ??= this.#finish();
    return this.#finishing;
  }

  /** Lets go of the process without ending it: another hearthd may take over. Idempotent. */
  release(): void {
    void this.#heartbeat?.stop();
    this.#heartbeat = undefined;
    this.#watcher = undefined;
    this.#recorder?.stop();
    this.#recorder = undefined;
  }

  async #finish(): Promise<VmExit> {
    await waitForEnd(this.handle.process, EXIT_AFTER_CLOSE_MS, new AbortController().signal);
    if (this.#recorder !== undefined) await within(this.#recorder.ended, EXIT_CODE_DEADLINE_MS);
    const childExit = await within(this.#options.childExit, EXIT_CODE_DEADLINE_MS);
    await waitForLauncher(this.handle.launcher, this.#options.onTrouble);
    const watcher = this.#watcher;
    this.release();
    this.#options.onEnd();
    await this.#cleanUp();
    const exit: VmExit = {
      reason: this.#readReason(childExit),
      code: childExit?.code ?? undefined,
      signal: childExit?.signal ?? undefined,
      atMs: Date.now(),
    };
    watcher?.exited(exit);
    return exit;
  }

  /** A guest that ends after we asked Firecracker to was faster; either way it was asked for. */
  #reason(childExit: ChildExit | undefined): VmExit["reason"] {
    if (this.#asked) return "asked";
    const code = childExit?.code ?? undefined;
    const endedWell = code === undefined ? ENDED_WELL.test(this.#tail("vmm.log")) : code === 0;
    // A kernel that panics resets the machine, as a reboot does; only its last words tell them apart.
    return endedWell && childExit?.signal == null && !endsInPanic(this.#path("console.log"))
      ? "guest"
      : "died";
  }

  #path(name: string): string {
    return join(this.handle.stateDir, name);
  }

  #tail(name: string): string {
    return readTail(this.#path(name), LOG_TAIL_BYTES);
  }

  /** A log that cannot be read, as on a disk that fails, does not keep the end from being told. */
  #readReason(childExit: ChildExit | undefined): VmExit["reason"] {
    try {
      return this.#reason(childExit);
    } catch (error) {
      this.#options.onTrouble(this.handle.stateDir, error);
      return "died";
    }
  }

  /** Before the end is told, so that a VMM that is started after it finds nothing; what fails is only reported. */
  async #cleanUp(): Promise<void> {
    try {
      await this.#removeFiles();
    } catch (error) {
      this.#options.onTrouble(dirname(this.files.api), error);
    }
  }

  /** Unless a successor of this VM listens there already: a handle may be old. */
  async #removeFiles(): Promise<void> {
    if (await isListening(this.files.api)) return;
    removeRunFiles(dirname(this.files.api));
    await new MemoryBase(this.handle.stateDir).forget();
  }

  /** The console closes with the process, sooner than the next heartbeat. */
  async #afterClose(recorder: FirecrackerRecorder): Promise<void> {
    await recorder.ended;
    if (this.#recorder !== recorder || this.#heartbeat === undefined) return; // We let go of it, or nobody watches.
    const { signal } = new AbortController();
    if (await waitForEnd(this.handle.process, EXIT_AFTER_CLOSE_MS, signal)) await this.finish();
  }

  async #ask(): Promise<void> {
    if (!isAlive(this.handle.process)) return void (await this.finish());
    if (this.#asked || this.#occupied > 0) return;
    try {
      const signal = AbortSignal.timeout(this.#options.timing.answerDeadlineMs);
      const { state } = await (await this.#getClient()).describeInstance(signal);
      const status = STATUS[state];
      if (status !== undefined && this.#occupied === 0) this.#watcher?.status?.(status);
      this.#keepRecording();
    } catch (error) {
      if (this.#occupied > 0) return; // It has become so meanwhile.
      if (isAlive(this.handle.process)) throw error;
      await this.finish();
    }
  }

  #keepRecording(): void {
    try {
      this.record(true);
    } catch (error) {
      this.#options.onTrouble(this.handle.stateDir, error); // The VM runs all the same.
    }
  }
}

function gone(): HearthError {
  return new HearthError("vm.gone", "The VM is not running any more.");
}
