/**
 * hearthd's side of one VMM process. It is the same for every driver, and for VMMs that this hearthd has started or
 * adopted:
 *
 *   watch ─▶ heartbeat ─▶ ask: answered ─▶ report the status, keep the logs small │ late: report the silence
 *   console or connection closed, or a heartbeat refused ─▶ has the process ended?
 *   ended ─▶ finish, once: 1. wait for the last output, the exit code and the launcher's end; end the helpers
 *                          2. release the connection, the recorder and the heartbeat
 *                          3. remove the sockets, unless a successor listens there; report what cannot be removed
 *                          4. tell the watcher how the VMM ended
 *
 * A driver defines what its VMM is asked, how its output is recorded, and how its end is read.
 */
import { dirname, join } from "node:path";
import { VM_NAMES } from "#base/file-names.ts";
import { unlessAborted, within } from "#base/deadline.ts";
import { HearthError } from "#base/error.ts";
import { Heartbeat } from "#drivers/heartbeat.ts";
import type { ChildExit } from "#jail/vmm-launch.ts";
import type { EndVmm } from "#drivers/end-vmm.ts";
import { endHelpers, waitForLauncher } from "#drivers/launcher-end.ts";
import { endsInPanic } from "#drivers/record-stream.ts";
import { EXIT_CODE_DEADLINE_MS } from "#drivers/starting-vmm.ts";
import type { VmmStatus, VmmWatcher } from "#drivers/vm-driver.ts";
import { sizeOf } from "#host/bounded-file.ts";
import { waitForEnd } from "#host/process-end.ts";
import { isAlive } from "#host/procfs.ts";
import { isListening } from "#host/unix-socket.ts";
import type { ExitReason, ProcessId, VmExit, VmHandle } from "#model/vm-handle.ts";

export type VmmTiming = {
  /** The time between two heartbeats. */
  readonly heartbeatMs: number;
  /** An answer that takes longer is a missed heartbeat; less than `heartbeatMs`. */
  readonly answerDeadlineMs: number;
  /** The longest time from the start of the process to its first answer. */
  readonly startDeadlineMs: number;
};

export type VmmSessionOptions<Timing extends VmmTiming = VmmTiming> = {
  readonly timing: Timing;
  /** The size limit of the console log, and of the VMM's log. */
  readonly logMaxBytes: number;
  /** Resolves with how the process ended, if it is a child of this hearthd. */
  readonly childExit?: Promise<ChildExit> | undefined;
  /** Ends the VMM and its helpers. */
  readonly endVmm: EndVmm;
  /** Called with what could not be cleaned up or written; the VM itself is not affected. */
  readonly onTrouble: (path: string, error: unknown) => void;
  /** Called once, when the process has ended. */
  readonly onEnd: () => void;
};

/** Reads the output of a VMM and writes it to files. */
export type SessionRecorder = {
  /** Resolves when the VMM has closed its console, or `stop` was called. Never rejects. */
  readonly ended: Promise<void>;
  /** Idempotent. */
  stop(): void;
};

/**
 * The way in which the guest ended its VMM. `off`: it powered the machine off. `reset`: it reset the machine, by a
 * reboot or a kernel panic. `off or reset`: either of them, on a machine without a power switch, where a guest powers
 * off by a reset. Undefined: the guest did not end the VMM.
 */
export type GuestEnd = "off" | "reset" | "off or reset" | undefined;

/** The time that `quiet` waits for the answer that is outstanding when a VMM is to end. */
const LAST_ANSWER_MS = 500;
/** The longest time that a VMM takes to end after it has closed its sockets: it frees the guest's memory meanwhile. */
export const EXIT_AFTER_CLOSE_MS = 10_000;

/** The signal of work that is done whatever becomes of the request that began it, and that has its own deadline. */
const { signal: never } = new AbortController();

export abstract class VmmSession<
  Recorder extends SessionRecorder = SessionRecorder,
  Timing extends VmmTiming = VmmTiming,
> {
  readonly handle: VmHandle;
  protected readonly options: VmmSessionOptions<Timing>;
  #watcher: VmmWatcher | undefined;
  #heartbeat: Heartbeat | undefined;
  #recorder: Promise<Recorder> | undefined;
  /** The end of the console log when this VMM was started: what precedes it is of an earlier boot. */
  #consoleFrom = 0;
  #asked = false;
  #finishing: Promise<VmExit> | undefined;

  constructor(handle: VmHandle, options: VmmSessionOptions<Timing>) {
    this.handle = handle;
    this.options = options;
  }

  /**
   * Asks the VMM for the state of its vCPUs, as a heartbeat. Undefined: it was not asked, because it is ending, or is
   * known to be unable to answer now. A rejection is a missed heartbeat.
   */
  protected abstract ask(signal: AbortSignal): Promise<VmmStatus | undefined>;

  /** Starts to record what the VMM writes, into the files of the VM's state directory. */
  protected abstract openRecorder(resumed: boolean, signal: AbortSignal): Promise<Recorder>;

  /** Reads how the process ended; may throw, as on a disk that fails. Called once, after `lastEvents`. */
  protected abstract readEnd(exit: ChildExit | undefined): GuestEnd;

  /** Removes the VMM's sockets and the other files that belong to this process alone. */
  protected abstract removeFiles(): Promise<void>;

  /** Closes the connection to the VMM, if there is one. Idempotent. */
  protected abstract disconnect(): void;

  /** Truncates the log files that the VMM itself writes, when they are too large. */
  protected boundLogs(): void {}

  /** Resolves when the VMM can report no more over its connection. Never rejects. */
  protected async lastEvents(): Promise<void> {}

  protected get process(): ProcessId {
    return this.handle.processes[0];
  }

  /** The uid of the VMM, which owns its sockets. Undefined: hearthd's uid. */
  protected get socketOwner(): number | undefined {
    return this.handle.isolation?.uid;
  }

  protected logPath(name: typeof VM_NAMES.console | typeof VM_NAMES.vmmLog): string {
    return join(this.handle.stateDir, name);
  }

  /** Follows the process until it ends or `signal` aborts. A second watcher replaces the first. */
  watch(watcher: VmmWatcher, signal: AbortSignal): void {
    if (signal.aborted) return;
    this.#watcher = watcher;
    const leave = (): void => {
      if (this.#watcher === watcher) this.release();
    };
    signal.addEventListener("abort", leave, { once: true });
    this.#heartbeat ??= new Heartbeat({
      everyMs: this.options.timing.heartbeatMs,
      ask: () => this.#beat(),
      onSilent: (silentMs) => this.#watcher?.silent(silentMs),
    });
  }

  /**
   * Records the VMM's output, unless that is done already. All callers share one recorder; each waits for it until its
   * own signal aborts.
   * @param resumed true when the guest has run before without a recorder
   * @throws the system's error when the output cannot be reached, or the files cannot be made
   */
  record(resumed: boolean, signal: AbortSignal): Promise<Recorder> {
    return unlessAborted((this.#recorder ??= this.#keepRecorder(resumed)), signal);
  }

  /** Notes that the end of the process is asked for from now on. The VMM is asked nothing more. */
  markAsked(): void {
    this.#asked = true;
  }

  /** Resolves when no heartbeat is outstanding, or after a short deadline. */
  async quiet(): Promise<void> {
    await within(this.#heartbeat?.idle(), LAST_ANSWER_MS);
  }

  /** Tells the watcher that the process has ended, and releases everything. Never rejects. Idempotent. */
  finish(): Promise<VmExit> {
    this.#finishing ??= this.#finish();
    return this.#finishing;
  }

  /** Releases the process without ending it: another hearthd may adopt it. Idempotent. */
  release(): void {
    this.#heartbeat?.stop();
    this.#heartbeat = undefined;
    this.#watcher = undefined;
    const recorder = this.#recorder;
    this.#recorder = undefined;
    void recorder?.then(
      (opened) => opened.stop(),
      () => {}, // The callers of `record` were told why there is none.
    );
    this.disconnect();
  }

  /** Checks whether the process ends. Called when the VMM has closed what it keeps open while it runs. */
  protected async mayHaveEnded(): Promise<void> {
    if (this.#heartbeat === undefined) return; // Without a watcher, boot and stop check for themselves.
    if (await waitForEnd(this.process, EXIT_AFTER_CLOSE_MS, never)) await this.finish();
  }

  #keepRecorder(resumed: boolean): Promise<Recorder> {
    if (!resumed) this.#consoleFrom = sizeOf(this.logPath(VM_NAMES.console));
    const { answerDeadlineMs, startDeadlineMs } = this.options.timing;
    const deadlineMs = resumed ? answerDeadlineMs : startDeadlineMs;
    const opening = this.openRecorder(resumed, AbortSignal.timeout(deadlineMs));
    void this.#clearWhenEnded(opening);
    return opening;
  }

  async #clearWhenEnded(opening: Promise<Recorder>): Promise<void> {
    try {
      await (
        await opening
      ).ended;
    } catch {
      // The callers of `record` were told why there is none; the next heartbeat tries again.
      if (this.#recorder === opening) this.#recorder = undefined;
      return;
    }
    if (this.#recorder !== opening) return; // The session was released.
    this.#recorder = undefined;
    await this.mayHaveEnded();
  }

  async #beat(): Promise<void> {
    if (!isAlive(this.process)) return void (await this.finish());
    if (this.#asked) return;
    try {
      const signal = AbortSignal.timeout(this.options.timing.answerDeadlineMs);
      const status = await this.ask(signal);
      if (status === undefined) return;
      this.#watcher?.status?.(status);
      await this.#keepLogs(signal);
    } catch (error) {
      if (isAlive(this.process)) throw error;
      await this.finish();
    }
  }

  async #keepLogs(signal: AbortSignal): Promise<void> {
    try {
      this.boundLogs();
      await this.record(true, signal);
    } catch (error) {
      this.options.onTrouble(this.handle.stateDir, error); // The VM runs all the same.
    }
  }

  async #finish(): Promise<VmExit> {
    await waitForEnd(this.process, EXIT_AFTER_CLOSE_MS, never);
    await within(this.lastEvents(), EXIT_CODE_DEADLINE_MS);
    await within(this.#recorded(), EXIT_CODE_DEADLINE_MS);
    const childExit = await within(this.options.childExit, EXIT_CODE_DEADLINE_MS);
    await waitForLauncher(this.handle.launcher, this.options.onTrouble);
    await endHelpers(this.handle, this.options.endVmm, this.options.onTrouble);
    const watcher = this.#watcher;
    this.release();
    this.options.onEnd();
    await this.#cleanUp();
    const exit: VmExit = {
      reason: this.#reason(childExit),
      code: childExit?.code ?? undefined,
      signal: childExit?.signal ?? undefined,
      atMs: Date.now(),
    };
    watcher?.exited(exit);
    return exit;
  }

  async #recorded(): Promise<void> {
    try {
      await (
        await this.#recorder
      )?.ended;
    } catch {
      // It never opened.
    }
  }

  /** Removes the files before the end is told, so that a VMM that is started after it finds none. */
  async #cleanUp(): Promise<void> {
    const { monitorSocket } = this.handle;
    try {
      // A handle may be old: a successor of this VM may listen there.
      if (!(await isListening(monitorSocket))) await this.removeFiles();
    } catch (error) {
      this.options.onTrouble(dirname(monitorSocket), error);
    }
  }

  /**
   * Returns why the VMM ended. A guest that powers off after a stop was asked for has only been faster: the end was
   * asked for. A log that cannot be read does not keep the end from being told.
   */
  #reason(childExit: ChildExit | undefined): ExitReason {
    if (this.#asked) return "asked";
    try {
      const end = this.readEnd(childExit);
      if (end === undefined) return "died";
      if (end === "off") return "guest";
      // A kernel that panics resets the machine, as a reboot does; only the end of the console log tells them apart.
      if (endsInPanic(this.logPath(VM_NAMES.console), this.#consoleFrom)) return "panicked";
      return end === "reset" ? "rebooted" : "guest";
    } catch (error) {
      this.options.onTrouble(this.handle.stateDir, error);
      return "died";
    }
  }
}

/** Returns the timing with an answer deadline that ends before the next heartbeat, however often those are. */
export function planTiming<Timing extends VmmTiming>(usual: Timing, given: Partial<Timing> = {}): Timing {
  const timing = { ...usual, ...given };
  return { ...timing, answerDeadlineMs: Math.min(timing.answerDeadlineMs, 0.8 * timing.heartbeatMs) };
}

/** Returns the error for a request to a VMM that has ended. */
export function vmGone(): HearthError {
  return new HearthError("vm.gone", "The VM is no longer running.");
}
