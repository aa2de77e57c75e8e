import { HearthError } from "#base/error.ts";
import { within } from "#base/deadline.ts";
import { isolationInForce } from "#drivers/boot-isolation.ts";
import type { BootIsolation } from "#drivers/boot-isolation.ts";
import type { FaultOptions } from "#jail/isolation-faults.ts";
import type { ChildExit, LaunchedVmm, VmmLaunch } from "#jail/vmm-launch.ts";
import { readTail, sizeOf, truncateWhenOver } from "#host/bounded-file.ts";
import { isAlive } from "#host/procfs.ts";
import type { IsolationInForce } from "#model/isolation.ts";
import type { ProcessId } from "#model/vm-handle.ts";

/** The longest time between the end of a process and the arrival of its exit code. */
export const EXIT_CODE_DEADLINE_MS = 1_000;

/** The size of the stderr tail in the error about a VMM that ended. */
const STDERR_TAIL_MAX_BYTES = 2_000;

export type StartVmmOptions = {
  /** The name of the VMM in sentences. */
  readonly name: string;
  readonly launch: VmmLaunch;
  readonly isolation: BootIsolation;
  readonly logMaxBytes: number;
};

/**
 * Starts a VMM, after it has truncated a log that is too large; the VMM does not answer yet.
 * @throws what `BootIsolation.launch` throws
 */
export async function startVmm(
  { name, launch, isolation, logMaxBytes }: StartVmmOptions,
  signal: AbortSignal,
): Promise<StartingVmm> {
  const { logFile } = launch;
  truncateWhenOver(logFile, logMaxBytes);
  const logStart = sizeOf(logFile);
  const launched = {
    ...(await isolation.launch(launch, signal)),
    inForce: isolationInForce(isolation),
    findFaults: isolation.findFaults.bind(isolation),
    end: isolation.end.bind(isolation),
  };
  return new StartingVmm(name, launched, () => readTail(logFile, STDERR_TAIL_MAX_BYTES, logStart).trim());
}

export type StartedVmm = LaunchedVmm &
  Pick<BootIsolation, "findFaults" | "end"> & { readonly inForce: IsolationInForce };

/** A VMM that was started and does not run a guest yet. */
export class StartingVmm {
  readonly launched: StartedVmm;
  /**
   * The VMM's process. A placeholder with pid 0 when it had ended before it was known; its end is reported all the
   * same.
   */
  readonly process: ProcessId;
  /** Resolves with the reason. */
  readonly hasEnded: Promise<HearthError>;
  readonly #name: string;
  readonly #stderrTail: () => string;
  #ended: HearthError | undefined;

  /**
   * @param name the VMM's name in sentences
   * @param stderrTail returns the end of what it has written on stderr since its start; called once it has ended
   */
  constructor(name: string, launched: StartedVmm, stderrTail: () => string) {
    this.launched = launched;
    this.process = launched.process ?? { pid: 0, startTicks: 0, hostBootId: "ended" };
    this.#name = name;
    this.#stderrTail = stderrTail;
    this.hasEnded = launched.exit.then((how) => (this.#ended = this.#describeEnd(how)));
  }

  /** The reason of its end, once it has ended. */
  get ended(): HearthError | undefined {
    return this.#ended;
  }

  async kill(): Promise<void> {
    const { signal } = new AbortController();
    const { launcher, exit } = this.launched;
    await this.launched.end(this.process, signal);
    await within(exit, EXIT_CODE_DEADLINE_MS);
    if (launcher !== undefined) await this.launched.end(launcher, signal);
  }

  /**
   * Checks that the VMM is isolated as it was started. To be called when it answers and before the guest runs; with
   * `seccomp` once it has loaded its filter.
   * @throws HearthError `vmm.not_isolated`
   */
  async confirmIsolation(options: FaultOptions): Promise<void> {
    const faults = await this.launched.findFaults(this.process, options);
    if (faults.length === 0) return;
    throw new HearthError(
      "vmm.not_isolated",
      `Cannot run the VM: ${this.#name} is not isolated as it should be: ${faults.join("; ")}.`,
      { hint: "Find the program that moves or changes processes on this host, and run `hearth doctor`." },
    );
  }

  /**
   * Returns the result of `work`. When `work` fails because the process has ended, throws the reason of that end, which
   * says more than the error of `work`.
   */
  async guard<Result>(work: Promise<Result>, signal: AbortSignal): Promise<Result> {
    try {
      return await work;
    } catch (error) {
      if (signal.aborted) throw error;
      // A process that ends closes its sockets a moment before it is gone.
      const closed = error instanceof HearthError && error.code === "vmm.failed";
      const mayHaveEnded = closed || !isAlive(this.process);
      throw (mayHaveEnded ? await within(this.hasEnded, EXIT_CODE_DEADLINE_MS) : this.#ended) ?? error;
    }
  }

  #describeEnd({ code, signal }: ChildExit): HearthError {
    const words = this.#stderrTail();
    return new HearthError("vmm.failed", `${this.#name} ${howItEnded(code, signal)} before the VM ran`, {
      hint: "`hearth doctor` checks what this host can do.",
      cause: new Error(words === "" ? "it printed nothing" : words),
    });
  }
}

function howItEnded(code: ChildExit["code"], signal: ChildExit["signal"]): string {
  if (signal !== null) return `was killed by ${signal}`;
  return code === null ? "lost its launcher" : `exited with code ${code}`;
}
