/**
 * The session of one QEMU: the single monitor connection that it serves, and the events that tell how its guest ended.
 */
import { VM_NAMES } from "#base/file-names.ts";
import { HearthError } from "#base/error.ts";
import { unlessAborted } from "#base/deadline.ts";
import { recordConsole } from "#drivers/qemu/console.ts";
import { QmpMonitor } from "#drivers/qemu/qmp.ts";
import type { QmpEvent } from "#drivers/qemu/qmp.ts";
import { readVmStatus } from "#drivers/qemu/vm-status.ts";
import type { StreamRecorder } from "#drivers/record-stream.ts";
import type { VmmStatus } from "#drivers/vm-driver.ts";
import { vmGone, VmmSession } from "#drivers/vmm-session.ts";
import type { GuestEnd, VmmTiming } from "#drivers/vmm-session.ts";
import { truncateWhenOver } from "#host/bounded-file.ts";
import { waitForEnd } from "#host/process-end.ts";
import { isAlive } from "#host/procfs.ts";
import { connectUnix, connectWhenReady, removeStaleSocket } from "#host/unix-socket.ts";

export type QemuTiming = VmmTiming & {
  /** The deadline of commands that a request waits for. */
  readonly commandDeadlineMs: number;
  /** The time from SIGTERM to SIGKILL. */
  readonly terminateMs: number;
};

/** The time from the guest's end to the end of the process; QEMU flushes the disks in between. */
const EXIT_AFTER_SHUTDOWN_MS = 10_000;

/** The reasons in QEMU's event SHUTDOWN with which the guest itself has ended. */
const GUEST_ENDS: Readonly<Record<string, GuestEnd>> = { "guest-shutdown": "off", "guest-reset": "reset" };

/** Shares the monitor among all callers, and ends a QEMU that hangs after its guest has ended. */
export class QemuSession extends VmmSession<StreamRecorder, QemuTiming> {
  #monitor: Promise<QmpMonitor> | undefined;
  #shutdownReason: string | undefined;

  /**
   * Returns the one connection to QEMU, opened when it is first needed. All callers share it; each waits for it until
   * its own signal aborts, which does not end the wait of others.
   */
  monitor(signal: AbortSignal): Promise<QmpMonitor> {
    const { answerDeadlineMs } = this.options.timing;
    const opening =
      this.#monitor ?? this.#keepMonitor(this.#openMonitor(AbortSignal.timeout(answerDeadlineMs)));
    return unlessAborted(opening, signal);
  }

  /** Opens the monitor of a QEMU that was started just now; `findFailure` as in `connectWhenReady`. */
  firstMonitor(findFailure: () => Error | undefined, signal: AbortSignal): Promise<QmpMonitor> {
    const open = async (): Promise<QmpMonitor> => {
      const socket = await connectWhenReady(this.handle.monitorSocket, this.socketOwner, findFailure, signal);
      return QmpMonitor.open(socket, (event) => this.#onEvent(event), this.options.timing.startDeadlineMs);
    };
    return this.#keepMonitor(open());
  }

  #keepMonitor(opening: Promise<QmpMonitor>): Promise<QmpMonitor> {
    this.#monitor = opening;
    void this.#clearWhenClosed(opening);
    return opening;
  }

  async #clearWhenClosed(opening: Promise<QmpMonitor>): Promise<void> {
    await closed(opening);
    if (this.#monitor === opening) this.#monitor = undefined;
    await this.mayHaveEnded();
  }

  async #openMonitor(signal: AbortSignal): Promise<QmpMonitor> {
    try {
      const socket = await connectUnix(this.handle.monitorSocket, this.socketOwner, signal);
      return await QmpMonitor.open(
        socket,
        (event) => this.#onEvent(event),
        this.options.timing.answerDeadlineMs,
      );
    } catch (error) {
      signal.throwIfAborted();
      if (!isAlive(this.process)) throw vmGone();
      if (error instanceof HearthError) throw error;
      throw new HearthError("vmm.failed", "Cannot reach the monitor of QEMU", { cause: error });
    }
  }

  protected override async ask(signal: AbortSignal): Promise<VmmStatus | undefined> {
    if (this.#shutdownReason !== undefined) return undefined; // A QEMU that ends is not disturbed.
    const monitor = await this.monitor(signal);
    return readVmStatus(monitor, this.options.timing.answerDeadlineMs);
  }

  protected override openRecorder(resumed: boolean, signal: AbortSignal): Promise<StreamRecorder> {
    const { logMaxBytes: maxBytes, onTrouble } = this.options;
    const console = { path: this.handle.consoleSocket, owner: this.socketOwner };
    return recordConsole(console, this.logPath(VM_NAMES.console), { maxBytes, resumed, onTrouble }, signal);
  }

  /** QEMU's stderr: nothing else writes there. */
  protected override boundLogs(): void {
    truncateWhenOver(this.logPath(VM_NAMES.vmmLog), this.options.logMaxBytes);
  }

  protected override lastEvents(): Promise<void> {
    return closed(this.#monitor);
  }

  protected override readEnd(): GuestEnd {
    return GUEST_ENDS[this.#shutdownReason ?? ""];
  }

  protected override removeFiles(): Promise<void> {
    const { monitorSocket, consoleSocket, agentSocket } = this.handle;
    for (const socket of [monitorSocket, consoleSocket, agentSocket]) removeStaleSocket(socket);
    return Promise.resolve();
  }

  protected override disconnect(): void {
    this.#monitor?.then(
      (monitor) => monitor.close(),
      () => {}, // It never opened, so there is nothing to close.
    );
  }

  #onEvent({ event, data }: QmpEvent): void {
    if (event !== "SHUTDOWN") return;
    const reason = data?.["reason"];
    this.#shutdownReason = typeof reason === "string" ? reason : "unknown";
    void this.#waitForExit();
  }

  /**
   * Waits for the end of a QEMU whose guest has ended. One that does not end hangs in its clean-up, has nothing left to
   * save, and is killed.
   */
  async #waitForExit(): Promise<void> {
    const { signal: never } = new AbortController();
    if (await waitForEnd(this.process, EXIT_AFTER_SHUTDOWN_MS, never)) return;
    try {
      await this.options.endVmm(this.handle.stateDir, this.process, 0, never);
    } catch (error) {
      this.options.onTrouble(`process ${this.process.pid}`, error);
    }
  }
}

/** Resolves when the connection is closed, or has failed to open. The callers of `monitor` got that error. */
async function closed(opening: Promise<QmpMonitor> | undefined): Promise<void> {
  try {
    await (
      await opening
    )?.closed;
  } catch {
    // It never opened.
  }
}
