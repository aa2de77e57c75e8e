/**
 * hearthd's side of one VMM process, the same for every driver, and whether this hearthd has started it or found it
 * again:
 *
 *   watch ─▶ heartbeat ─▶ ask: answered ─▶ tell the status, keep the logs │ late: tell the silence
 *   console or connection closed, or a heartbeat refused ─▶ is the process gone?
 *   gone ─▶ finish, once: 1. wait for what is on its way: last output, exit code, the launcher's end; end the helpers
 *                         2. let go of the connection, the recorder and the heartbeat
 *                         3. remove the sockets, unless a successor listens there; report what cannot be removed
 *                         4. tell the watcher how the VMM ended
 *
 * A driver adds what its VMM is asked, how its output is recorded, and how its end is read.
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
  /** Between two heartbeats. */
  readonly heartbeatMs: number;
  /** An answer that takes longer is a missed heartbeat; less than `heartbeatMs`. */
  readonly answerDeadlineMs: number;
  /** From the start of the process until it answers. */
  readonly startDeadlineMs: number;
};

export type VmmSessionOptions<Timing extends VmmTiming = VmmTiming> = {
  readonly timing: Timing;
  /** For the console's and the VMM's log, each. */
  readonly logMaxBytes: number;
  /** When the process is our child: how it ended. */
  readonly childExit?: Promise<ChildExit> | undefined;
  /** Ends the VMM, and what works for it. */
  readonly endVmm: EndVmm;
  /** Told of what could not be cleaned up or written; the VM is not concerned. */
  readonly onTrouble: (path: string, error: unknown) => void;
  /** Called once, when the process has ended. */
  readonly onEnd: () => void;
};

/** What reads the output of a VMM. */
export type SessionRecorder = {
  /** Resolves when the VMM has closed its console, or `stop` was called. Never rejects. */
  readonly ended: Promise<void>;
  /** Idempotent. */
  stop(): void;
};

/**
 * How the guest ended its VMM. `off`: it powered the machine off. `reset`: it reset the machine, as a reboot does, and a
 * kernel that panics. `off or reset`: the same from a machine without a power switch, where a reset is the only way to
 * power off. Undefined: the VMM ended of something else.
 */
export type GuestEnd = "off" | "reset" | "off or reset" | undefined;

/** For the answer that is on its way when a VMM is to end. */
const LAST_ANSWER_MS = 500;
/** A VMM that ends closes its sockets first, and then gives the guest's memory back. */
export const EXIT_AFTER_CLOSE_MS = 10_000;

/** For what has to be done whoever has asked for it, and has a deadline of its own. */
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
  /** Where the console's log ended when this VMM was started: what is before it is an earlier boot's. */
  #consoleFrom = 0;
  #asked = false;
  #finishing: Promise<VmExit> | undefined;

  constructor(handle: VmHandle, options: VmmSessionOptions<Timing>) {
    this.handle = handle;
    this.options = options;
  }

  /**
   * Asks the VMM how its vCPUs are, for the heartbeat. Undefined: it was not asked, because it ends, or is deaf for a
   * good reason. A rejection is a missed heartbeat.
   */
  protected abstract ask(signal: AbortSignal): Promise<VmmStatus | undefined>;

  /** Starts to record what the VMM writes, into the files of the VM's state directory. */
  protected abstract openRecorder(resumed: boolean, signal: AbortSignal): Promise<Recorder>;

  /** Reads how the process ended; may throw, as on a disk that fails. Called once, after `lastWords`. */
  protected abstract readEnd(exit: ChildExit | undefined): GuestEnd;

  /** Removes the VMM's sockets and what else belongs to this process alone. */
  protected abstract removeFiles(): Promise<void>;

  /** Closes the connection to the VMM, if there is one. Idempotent. */
  protected abstract disconnect(): void;

  /** Keeps the files bounded that the VMM writes by itself. */
  protected boundLogs(): void {}

  /** Resolves when the VMM can tell no more over its connection. Never rejects. */
  protected async lastEvents(): Promise<void> {}

  protected get process(): ProcessId {
    return this.handle.processes[0];
  }

  /** Of the VMM, and so of its sockets; undefined: the own one. */
  protected get socketOwner(): number | undefined {
    return this.handle.isolation?.uid;
  }

  protected logPath(name: typeof VM_NAMES.console | typeof VM_NAMES.vmmLog): string {
    return join(this.handle.stateDir, name);
  }

  /** Follows the process until it ends or `signal` aborts. A second watcher takes the place of the first. */
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
   * Records the VMM's output, unless that is done already. All who ask wait for the same recorder, each for as long as
   * it likes.
   * @param resumed the guest has run before without a reader
   * @throws the system's error when the output cannot be reached, or the files cannot be made
   */
  record(resumed: boolean, signal: AbortSignal): Promise<Recorder> {
    return unlessAborted((this.#recorder ??= this.#keepRecorder(resumed)), signal);
  }

  /** Whatever ends the process from now on was asked for. The VMM is asked nothing more. */
  markAsked(): void {
    this.#asked = true;
  }

  /** Resolves when no question of a heartbeat is on its way any more; soon, whatever the VMM does. */
  async quiet(): Promise<void> {
    await within(this.#heartbeat?.idle(), LAST_ANSWER_MS);
  }

  /** Tells the watcher that the process has ended, and lets go of everything. Never rejects. Idempotent. */
  finish(): Promise<VmExit> {
    this.#finishing ??= this.#finish();
    return this.#finishing;
  }

  /** Lets go of the process without ending it: another hearthd may take over. Idempotent. */
  release(): void {
    this.#heartbeat?.stop();
    this.#heartbeat = undefined;
    this.#watcher = undefined;
    const recorder = this.#recorder;
    this.#recorder = undefined;
    void recorder?.then(
      (opened) => opened.stop(),
      () => {}, // Whoever asked for it was told why there is none.
    );
    this.disconnect();
  }

  /** To be called when the VMM has closed what it keeps open while it runs. */
  protected async mayHaveEnded(): Promise<void> {
    if (this.#heartbeat === undefined) return; // Nobody watches; boot and stop look for themselves.
    if (await waitForEnd(this.process, EXIT_AFTER_CLOSE_MS, never)) await this.finish();
  }

  #keepRecorder(resumed: boolean): Promise<Recorder> {
    if (!resumed) this.#consoleFrom = sizeOf(this.logPath(VM_NAMES.console));
    const { answerDeadlineMs, startDeadlineMs } = this.options.timing;
    const deadlineMs = resumed ? answerDeadlineMs : startDeadlineMs;
    const opening = this.openRecorder(resumed, AbortSignal.timeout(deadlineMs));
    void this.#forgetRecorder(opening);
    return opening;
  }

  async #forgetRecorder(opening: Promise<Recorder>): Promise<void> {
    try {
      await (
        await opening
      ).ended;
    } catch {
      // Whoever asked for it was told why there is none; the next heartbeat tries again.
      if (this.#recorder === opening) this.#recorder = undefined;
      return;
    }
    if (this.#recorder !== opening) return; // We let go of it.
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

  /** Before the end is told, so that a VMM that is started after it finds nothing. */
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
   * A guest that powers off after we asked its VMM to end was faster; either way it was asked for. A log that cannot be
   * read does not keep the end from being told.
   */
  #reason(childExit: ChildExit | undefined): ExitReason {
    if (this.#asked) return "asked";
    try {
      const end = this.readEnd(childExit);
      if (end === undefined) return "died";
      if (end === "off") return "guest";
      // A kernel that panics resets the machine, as a reboot does; only the console's end tells them apart.
      if (endsInPanic(this.logPath(VM_NAMES.console), this.#consoleFrom)) return "panicked";
      return end === "reset" ? "rebooted" : "guest";
    } catch (error) {
      this.options.onTrouble(this.handle.stateDir, error);
      return "died";
    }
  }
}

/** An answer is late before the next heartbeat is due, however often that is. */
export function planTiming<Timing extends VmmTiming>(usual: Timing, given: Partial<Timing> = {}): Timing {
  const timing = { ...usual, ...given };
  return { ...timing, answerDeadlineMs: Math.min(timing.answerDeadlineMs, 0.8 * timing.heartbeatMs) };
}

export function vmGone(): HearthError {
  return new HearthError("vm.gone", "The VM is not running any more.");
}
