/**
 * What hearthd keeps for one QEMU process that runs, whether it started it or found it again: the one monitor
 * connection that QEMU serves, the console's recorder, a heartbeat, and how it ended.
 *
 *   heartbeat ─▶ query-status ─▶ answered: the status │ late: silent │ closed: look whether the process is gone
 */
import { dirname, join } from "node:path";
import { HearthError } from "#base/error.ts";
import type { VmmWatcher } from "#drivers/vm-driver.ts";
import { recordConsole } from "#drivers/qemu/console.ts";
import { waitForLauncher } from "#drivers/launcher-end.ts";
import { endsInPanic } from "#drivers/record-stream.ts";
import type { StreamRecorder } from "#drivers/record-stream.ts";
import { unlessAborted, within } from "#base/deadline.ts";
import { EXIT_CODE_DEADLINE_MS } from "#drivers/starting-vmm.ts";
import { QmpMonitor } from "#drivers/qemu/qmp.ts";
import { readVmStatus } from "#drivers/qemu/vm-status.ts";
import type { QmpEvent } from "#drivers/qemu/qmp.ts";
import { Heartbeat } from "#drivers/heartbeat.ts";
import type { ChildExit } from "#drivers/jail/launch-vmm.ts";
import { truncateWhenOver } from "#host/bounded-file.ts";
import { waitForEnd } from "#host/process-end.ts";
import { isAlive, signalProcess } from "#host/procfs.ts";
import { connectUnix, connectWhenReady, isListening, removeStaleSocket } from "#host/unix-socket.ts";
import type { VmExit, VmHandle } from "#model/vm-handle.ts";

export type QemuTiming = {
  /** Between two heartbeats. */
  readonly heartbeatMs: number;
  /** An answer that takes longer is a missed heartbeat; less than `heartbeatMs`. */
  readonly answerDeadlineMs: number;
  /** For commands that somebody waits for. */
  readonly commandDeadlineMs: number;
  /** From the start of the process until its monitor greets. */
  readonly startDeadlineMs: number;
  /** SIGTERM gets this long before SIGKILL. SV-026. */
  readonly terminateMs: number;
};

export type SessionOptions = {
  readonly timing: QemuTiming;
  readonly logMaxBytes: number;
  /** When the process is our child: how it ended. */
  readonly childExit?: Promise<ChildExit> | undefined;
  readonly onTrouble: (path: string, error: unknown) => void;
  readonly onEnd: () => void;
};

/** For the answer that is on its way when QEMU is to end; one that hangs gets SIGKILL anyway. */
const LAST_ANSWER_MS = 500;
/** From the guest's end to the process' own; QEMU flushes the disks in between. */
const EXIT_AFTER_SHUTDOWN_MS = 10_000;
/** QEMU closes its monitor first and then gives the guest's memory back. */
const EXIT_AFTER_CLOSE_MS = 2_000;

/** hearthd's side of one QEMU: monitor, watch and console. */
export class QemuSession {
  readonly handle: VmHandle;
  readonly #options: SessionOptions;
  #monitor: Promise<QmpMonitor> | undefined;
  #recorder: StreamRecorder | undefined;
  #watcher: VmmWatcher | undefined;
  #heartbeat: Heartbeat | undefined;
  #shutdownReason: string | undefined;
  #asked = false;
  #finishing: Promise<VmExit> | undefined;

  constructor(handle: VmHandle, options: SessionOptions) {
    this.handle = handle;
    this.#options = options;
  }

  /** Of the VMM, and so of its sockets; undefined: the own one. */
  get #uid(): number | undefined {
    return this.handle.isolation?.uid;
  }

  /**
   * The one connection to QEMU, opened when it is first needed. All who need it wait for the same one, each as long as
   * it likes: none of them ends the wait of another.
   */
  monitor(signal: AbortSignal): Promise<QmpMonitor> {
    const { answerDeadlineMs } = this.#options.timing;
    const opening =
      this.#monitor ?? this.#keepMonitor(this.#openMonitor(AbortSignal.timeout(answerDeadlineMs)));
    return unlessAborted(opening, signal);
  }

  /** For a QEMU that was started just now; `givenUp` as in `connectWhenReady`. */
  firstMonitor(givenUp: () => Error | undefined, signal: AbortSignal): Promise<QmpMonitor> {
    const open = async (): Promise<QmpMonitor> => {
      const socket = await connectWhenReady(this.handle.monitorSocket, this.#uid, givenUp, signal);
      return QmpMonitor.open(socket, (event) => this.#onEvent(event), this.#options.timing.startDeadlineMs);
    };
    return this.#keepMonitor(open());
  }

  #keepMonitor(opening: Promise<QmpMonitor>): Promise<QmpMonitor> {
    this.#monitor = opening;
    void this.#forgetWhenClosed(opening);
    return opening;
  }

  async #forgetWhenClosed(opening: Promise<QmpMonitor>): Promise<void> {
    try {
      await (
        await opening
      ).closed;
    } catch {
      // Whoever asked for the monitor was told why there is none.
    }
    if (this.#monitor === opening) this.#monitor = undefined;
    await this.#afterClose();
  }

  async #openMonitor(signal: AbortSignal): Promise<QmpMonitor> {
    try {
      const socket = await connectUnix(this.handle.monitorSocket, this.#uid, signal);
      return await QmpMonitor.open(
        socket,
        (event) => this.#onEvent(event),
        this.#options.timing.answerDeadlineMs,
      );
    } catch (error) {
      signal.throwIfAborted();
      if (!isAlive(this.handle.process)) throw new HearthError("vm.gone", "The VM is not running any more.");
      if (error instanceof HearthError) throw error;
      throw new HearthError("vmm.failed", "QEMU's monitor cannot be reached", { cause: error });
    }
  }

  /** @throws the system's error when QEMU's console cannot be reached or the file not be written. */
  async record(resumed: boolean, signal: AbortSignal): Promise<void> {
    if (this.#recorder !== undefined) return;
    const { logMaxBytes: maxBytes, onTrouble } = this.#options;
    const recorder = await recordConsole(
      { path: this.handle.consoleSocket, owner: this.#uid },
      this.#consoleLog(),
      { maxBytes, resumed, onTrouble },
      signal,
    );
    this.#recorder = recorder;
    void this.#forgetWhenEnded(recorder);
  }

  async #forgetWhenEnded(recorder: StreamRecorder): Promise<void> {
    await recorder.ended;
    if (this.#recorder === recorder) this.#recorder = undefined;
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

  /**
   * Whatever ends the process from now on was asked for. Resolves when no command is on its way any more:
   * QEMU 7.2 that is told to end while it answers one waits for ever (3 of 40 times on a loaded machine).
   */
  async askedToEnd(): Promise<void> {
    this.#asked = true;
    await within(this.#heartbeat?.stop(), LAST_ANSWER_MS);
  }

  /** Tells the watcher that the process has ended, and lets go of everything. Never rejects. Idempotent. */
  finish(): Promise<VmExit> {
    this.#finishing ??= this.#finish();
    return this.#finishing;
  }

  /** Lets go of the process without ending it: another hearthd may take over. Idempotent. */
  release(): void {
    this.#unwatch();
    this.#recorder?.stop();
    void this.#closeMonitor();
  }

  async #closeMonitor(): Promise<void> {
    try {
      (await this.#monitor)?.close();
    } catch {
      // It never opened, so there is nothing to close.
    }
  }

  async #finish(): Promise<VmExit> {
    await waitForEnd(this.handle.process, EXIT_AFTER_CLOSE_MS, new AbortController().signal);
    // What QEMU said last may still be on its way.
    await within(this.#monitorClosed(), EXIT_CODE_DEADLINE_MS);
    if (this.#recorder !== undefined) await within(this.#recorder.ended, EXIT_CODE_DEADLINE_MS);
    const childExit = await within(this.#options.childExit, EXIT_CODE_DEADLINE_MS);
    await waitForLauncher(this.handle.launcher, this.#options.onTrouble);
    const watcher = this.#watcher;
    this.release();
    this.#options.onEnd();
    await this.#cleanUp();
    const exit: VmExit = {
      reason: this.#readReason(),
      code: childExit?.code ?? undefined,
      signal: childExit?.signal ?? undefined,
      atMs: Date.now(),
    };
    watcher?.exited(exit);
    return exit;
  }

  /** A log that cannot be read, as on a disk that fails, does not keep the end from being told. */
  #readReason(): VmExit["reason"] {
    try {
      return this.#reason();
    } catch (error) {
      this.#options.onTrouble(this.handle.stateDir, error);
      return "died";
    }
  }

  /** Before the end is told, so that a VMM that is started after it finds nothing; what fails is only reported. */
  async #cleanUp(): Promise<void> {
    try {
      await this.#removeSockets();
    } catch (error) {
      this.#options.onTrouble(dirname(this.handle.monitorSocket), error);
    }
  }

  /** Unless a successor of this VM listens there already: a handle may be old. */
  async #removeSockets(): Promise<void> {
    const { monitorSocket, consoleSocket, agentSocket } = this.handle;
    if (await isListening(monitorSocket)) return;
    for (const socket of [monitorSocket, consoleSocket, agentSocket]) removeStaleSocket(socket);
  }

  async #monitorClosed(): Promise<void> {
    try {
      await (
        await this.#monitor
      )?.closed;
    } catch {
      // It never opened.
    }
  }

  /** A guest that powers off after we asked QEMU to end was faster; either way it was asked for. */
  #reason(): VmExit["reason"] {
    if (this.#asked) return "asked";
    if (this.#shutdownReason === "guest-shutdown") return "guest";
    // A kernel that panics resets the machine, as a reboot does; only its last words tell them apart.
    if (this.#shutdownReason === "guest-reset" && !endsInPanic(this.#consoleLog())) return "guest";
    return "died";
  }

  #consoleLog(): string {
    return join(this.handle.stateDir, "console.log");
  }

  #unwatch(): void {
    void this.#heartbeat?.stop();
    this.#heartbeat = undefined;
    this.#watcher = undefined;
  }

  #onEvent({ event, data }: QmpEvent): void {
    if (event !== "SHUTDOWN") return;
    const reason = data?.["reason"];
    this.#shutdownReason = typeof reason === "string" ? reason : "unknown";
    void this.#seeItEnd();
  }

  /** The guest has gone; a QEMU that does not follow hangs in its own clean-up and has nothing left to save. */
  async #seeItEnd(): Promise<void> {
    if (await waitForEnd(this.handle.process, EXIT_AFTER_SHUTDOWN_MS, new AbortController().signal)) return;
    signalProcess(this.handle.process, "SIGKILL");
  }

  async #afterClose(): Promise<void> {
    if (this.#heartbeat === undefined) return; // Nobody watches; boot and stop look for themselves.
    const { signal } = new AbortController();
    if (await waitForEnd(this.handle.process, EXIT_AFTER_CLOSE_MS, signal)) await this.finish();
  }

  /** A QEMU that ends is not disturbed. */
  async #ask(): Promise<void> {
    if (!isAlive(this.handle.process)) return void (await this.finish());
    if (this.#asked || this.#shutdownReason !== undefined) return;
    try {
      const { answerDeadlineMs } = this.#options.timing;
      const signal = AbortSignal.timeout(answerDeadlineMs);
      const monitor = await this.monitor(signal);
      const status = await readVmStatus(monitor, answerDeadlineMs);
      if (status !== undefined) this.#watcher?.status?.(status);
      await this.#keepLogs(signal);
    } catch (error) {
      if (isAlive(this.handle.process)) throw error;
      await this.finish();
    }
  }

  async #keepLogs(signal: AbortSignal): Promise<void> {
    const vmmLog = join(this.handle.stateDir, "vmm.log");
    try {
      truncateWhenOver(vmmLog, this.#options.logMaxBytes);
      await this.record(true, signal);
    } catch (error) {
      this.#options.onTrouble(this.handle.stateDir, error); // The VM runs all the same.
    }
  }
}
